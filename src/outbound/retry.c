/*
 * Retry times: see retry.h.
 */
#include "outbound/retry.h"
#include "base/clock.h"
#include <assert.h>

int64_t retry_begin(const struct envelope *env)
{
    return env->hold_until_ns > env->arrived_ns ? env->hold_until_ns : env->arrived_ns;
}

int64_t retry_end(const struct conf *conf, const struct envelope *env)
{
    return retry_begin(env) + (env->null_sender ? conf->bounce_expire_ns : conf->expire_ns);
}

static int64_t with_jitter(int64_t delay_ns)
{
    int64_t tenth = delay_ns / 10;
    return delay_ns - tenth + (int64_t)clock_random_below((uint64_t)(2 * tenth + 1));
}

int64_t retry_next(const struct conf *conf, const struct envelope *env, struct str domain, uint32_t attempts, int64_t now_wall_ns)
{
    const struct conf_retry *retry = conf_retry_of(conf, domain);
    assert(attempts > 0 && retry->count > 0);
    size_t step = attempts - 1 < retry->count ? attempts - 1 : retry->count - 1;
    int64_t next = now_wall_ns + with_jitter(retry->delays_ns[step]);
    int64_t end = retry_end(conf, env);
    if (env->deliver_by_ns != 0 && env->deliver_by_ns < end && now_wall_ns < env->deliver_by_ns)
        end = env->deliver_by_ns;
    return next > end && now_wall_ns < end ? end : next;
}

bool retry_is_over(const struct conf *conf, const struct envelope *env, int64_t now_wall_ns)
{
    return now_wall_ns >= retry_end(conf, env);
}

bool retry_is_late(const struct envelope *env, int64_t now_wall_ns)
{
    return env->deliver_by_ns != 0 && now_wall_ns >= env->deliver_by_ns;
}
