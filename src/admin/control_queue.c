/*
 * The requests of the control socket: a table of names and functions.
 */
#include "admin/control.h"
#include "admin/control_internal.h"
#include "admin/filter.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/metrics.h"
#include "mail/address.h"
#include "base/clock.h"
#include "outbound/bounce.h"
#include "outbound/outbound.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHOW_MEMORY_MAX (64 * 1024 * 1024)
#define SHOW_PAGE_MAX   (CONTROL_MESSAGE_MAX / 2)   /* bytes of recipients in one answer; likewise */
#define ESCAPED         6                /* bytes of JSON that a byte can become */
#define RCPT_OVERHEAD   256              /* names of the members, and a state */

json_t *control_refuse(struct str why)
{
    return json_pack("{s:b, s:o}", "ok", 0, "error", control_string(why));
}

static json_t *refuse(const char *why)
{
    return control_refuse(str_of(why));
}

const char *control_error(int r)
{
    switch (r) {
    case -ENOENT: return CONTROL_NO_MESSAGE;
    case -EBUSY:  return "it is being delivered right now";
    case -EINVAL: return "the reason is no line of text, or too long";
    case -EMSGSIZE: return "it would be too large for the journal";
    case -EPROTOTYPE: return "it is not for an address in UTF-8";
    }
    return strerror(-r);
}

static json_t *result_of(int r)
{
    return r == 0 ? json_pack("{s:b}", "ok", 1) : refuse(control_error(r));
}

bool control_get_id(const json_t *request, const char *key, uint64_t *out)
{
    const char *text = json_string_value(json_object_get(request, key));
    return text != NULL && codec_id_parse(str_of(text), out);
}

json_t *control_id(uint64_t id)
{
    char text[CODEC_ID_LEN + 1];
    codec_id_format(id, text);
    return json_string(text);
}

static const char *rcpt_state_name(enum rcpt_state state)
{
    switch (state) {
    case RCPT_PENDING:   return "pending";
    case RCPT_DELIVERED: return "delivered";
    case RCPT_BOUNCED:   return "bounced";
    case RCPT_FAILED:    return "failed";
    case RCPT_DISCARDED: return "discarded";
    }
    return "";
}

static json_t *address_string(const struct address *addr)
{
    CLEANUP_BUF struct buf text;
    buf_init(&text, 4096);
    address_put(&text, addr);
    return control_string(buf_str(&text));
}

json_t *control_item(const struct queue_item *item)
{
    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "id", control_id(item->id), "state", filter_state_name(item->state), "attempts",
                     (json_int_t)item->attempts, "pending", (json_int_t)item->rcpts_pending, "recipients", (json_int_t)item->rcpts_total,
                     "arrived_ns", (json_int_t)item->arrived_wall_ns, "due_ns", (json_int_t)item->due_wall_ns, "size",
                     (json_int_t)item->size);
}

/* -- requests -------------------------------------------------------------------------------------------------------------- */

static json_t *recipient_object(const struct queue_details *d, size_t i)
{
    const struct recipient *r = &d->env.rcpts[i];
    json_t *object = json_pack("{s:o, s:o, s:s, s:o, s:o, s:o}", "to", address_string(&r->addr), "named", address_string(&r->rewritten_from),
                               "state", rcpt_state_name(d->states[i]), "status", control_string(d->last[i].status), "remote",
                               control_string(d->last[i].remote), "text", control_string(d->last[i].text));
    if (r->next_hop.n > 0)
        (void)json_object_set_new(object, "via", control_string(r->next_hop));
    return object;
}

static size_t recipient_size(const struct queue_details *d, size_t i)
{
    const struct recipient *r = &d->env.rcpts[i];
    size_t n = r->addr.local.n + r->addr.domain.n + r->rewritten_from.local.n + r->rewritten_from.domain.n + d->last[i].status.n +
               d->last[i].remote.n + d->last[i].text.n + r->next_hop.n;
    return ESCAPED * n + RCPT_OVERHEAD;
}

/* Those from *next on that one answer holds; *next is the first of the others then. */
static json_t *recipients_array(const struct queue_details *d, size_t *next)
{
    json_t *list = json_array();
    size_t room = SHOW_PAGE_MAX, i = *next;

    for (; i < d->env.rcpt_count && recipient_size(d, i) <= room; i++) {
        room -= recipient_size(d, i);
        (void)json_array_append_new(list, recipient_object(d, i));
    }
    *next = i;
    return list;
}

static json_t *details_object(const struct queue_details *d, size_t first)
{
    size_t next = first;
    json_t *recipients = recipients_array(d, &next);
    json_t *answer = json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "ok", 1, "item", control_item(&d->item), "from",
                               address_string(&d->env.sender), "client", control_string(d->env.client_ip), "helo",
                               control_string(d->env.helo), "login", control_string(d->env.login), "recipients", recipients);
    if (next > first && next < d->env.rcpt_count)
        (void)json_object_set_new(answer, "next", json_integer((json_int_t)next));
    return answer;
}

static json_t *do_show(struct queue *q, const json_t *request)
{
    uint64_t id;
    if (!control_get_id(request, "id", &id))
        return refuse("that is no queue id");
    json_int_t first = json_integer_value(json_object_get(request, "first"));
    if (first < 0)
        return refuse("that is no recipient's number");
    struct arena arena;
    struct queue_details d;
    arena_init(&arena, SHOW_MEMORY_MAX);
    int r = queue_show(q, id, &arena, &d);
    json_t *answer = r < 0 ? result_of(r) : details_object(&d, (size_t)first);
    arena_reset(&arena);
    return answer;
}

static int hold(struct queue *q, uint64_t id, const struct control_wish *wish) { return (void)wish, queue_hold(q, id); }
static int release(struct queue *q, uint64_t id, const struct control_wish *wish) { return (void)wish, queue_release(q, id); }
static int retry(struct queue *q, uint64_t id, const struct control_wish *wish) { return (void)wish, queue_retry(q, id); }
static int discard(struct queue *q, uint64_t id, const struct control_wish *wish) { return (void)wish, queue_discard(q, id); }

static int bounce(struct queue *q, uint64_t id, const struct control_wish *wish)
{
    const json_t *reason = json_object_get(wish->request, "reason");
    struct str text = { json_string_value(reason), json_string_length(reason) };
    return bounce_message(q, id, json_is_string(reason) ? text : STR("the operators of this mail server have returned it"));
}

static json_t *change(struct queue *q, const json_t *request, control_change_fn *fn)
{
    uint64_t id;
    if (json_object_get(request, "filter") != NULL)
        return control_change(q, request, fn, NULL);
    const struct control_wish wish = { .request = request };
    return control_get_id(request, "id", &id) ? result_of(fn(q, id, &wish)) : refuse("that is no queue id");
}

static json_t *do_hold(struct queue *q, const json_t *request) { return change(q, request, hold); }
static json_t *do_release(struct queue *q, const json_t *request) { return change(q, request, release); }
static json_t *do_retry(struct queue *q, const json_t *request) { return change(q, request, retry); }
static json_t *do_delete(struct queue *q, const json_t *request) { return change(q, request, discard); }
static json_t *do_bounce(struct queue *q, const json_t *request) { return change(q, request, bounce); }

static json_t *do_reroute(struct queue *q, const json_t *request)
{
    json_t *wrong = control_reroute_check(request);
    return wrong != NULL ? wrong : change(q, request, control_reroute);
}

static json_t *do_metrics(struct queue *q, const json_t *request)
{
    (void)q, (void)request;
    json_t *values = json_object();
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        (void)json_object_set_new(values, metric_name((enum metric)m), json_integer((json_int_t)metric_get((enum metric)m)));
    return json_pack("{s:b, s:o}", "ok", 1, "metrics", values);
}

#define SITES_A_PAGE 100

static json_t *site_json(const struct outbound_site *s)
{
    static const char *const states[] = {
        [OUTBOUND_SITE_WELL] = "well", [OUTBOUND_SITE_NEW] = "new", [OUTBOUND_SITE_DEAD] = "dead", [OUTBOUND_SITE_RESTS] = "rests",
    };
    return json_pack("{s:o, s:s, s:i, s:i, s:i, s:I, s:b, s:b, s:I, s:o}", "site", control_string(str_of(s->site)), "state", states[s->state],
                     "deliveries", (int)s->inside, "deliveries_max", (int)s->inside_max, "per_hour", (int)s->per_hour,
                     "waiting", (json_int_t)s->waiting, "parked", s->parked, "ipv4", s->ipv4, "rests_s", (json_int_t)(s->rests_ns / NS_PER_S),
                     "words", control_string(str_of(s->words)));
}

/* A page, and where the next begins; sites come and go in between. */
static json_t *do_sites(struct queue *q, const json_t *request)
{
    size_t cursor = (size_t)json_integer_value(json_object_get(request, "cursor"));
    json_t *sites = json_array();
    struct outbound_site site;
    bool more = true;
    (void)q;
    while (json_array_size(sites) < SITES_A_PAGE && (more = outbound_each_site(&cursor, &site)))
        (void)json_array_append_new(sites, site_json(&site));
    return json_pack("{s:b, s:o, s:I}", "ok", 1, "sites", sites, "next", (json_int_t)(more ? cursor : 0));
}

static const struct {
    const char *name;
    json_t *(*fn)(struct queue *q, const json_t *request);
} requests[] = {
    { "queue.list",    control_list },
    { "queue.show",    do_show      },
    { "queue.hold",    do_hold      },
    { "queue.release", do_release   },
    { "queue.retry",   do_retry     },
    { "queue.delete",  do_delete    },
    { "queue.bounce",  do_bounce    },
    { "queue.reroute", do_reroute   },
    { "metrics",       do_metrics   },
    { "sites",         do_sites     },
};

json_t *control_answer(struct queue *q, struct exchange *exchange, const json_t *request)
{
    const char *name = json_string_value(json_object_get(request, "do"));
    for (size_t i = 0; name != NULL && i < sizeof(requests) / sizeof(requests[0]); i++)
        if (strcmp(requests[i].name, name) == 0)
            return requests[i].fn(q, request);
    json_t *answer = name != NULL ? exchange_answer(exchange, name, request) : NULL;
    return answer != NULL ? answer : refuse("there is no such request");
}
