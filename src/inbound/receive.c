/*
 * How the text of a message is framed: DATA, from 354 to the final dot, and BDAT, in counted chunks (RFC 3030).
 *
 * Whatever goes wrong on the way (too big, no disk, a bare LF), the rest is read to its end, so that the refusal arrives where the
 * client expects it and the next command is read as one. Of a BDAT that is refused from the beginning the octets are read all the
 * same. Runs in the worker, in the session's task.
 */
#include "base/clock.h"
#include "base/metrics.h"
#include "inbound/receiving.h"
#include "inbound/session_internal.h"

#define DROP_MAX_FACTOR 2                /* of message_size_max: so much of a message that is too big is read away */

static uint64_t drop_max(const struct session *s) { return s->conf->message_size_max * DROP_MAX_FACTOR; }

/* The size of a chunk is a stranger's: any 64 bits. */
static bool beyond(const struct receiving *r, uint64_t size, uint64_t max)
{
    return size > max || r->decoder.bytes > max - size;
}

/* The text is complete. In LMTP what becomes of it is said for each RCPT that was accepted, even of the same recipient (RFC 2033, 4.2). */
static struct reply verdict(struct receiving *r)
{
    if (session_is_lmtp(r->s))
        r->s->replies = r->s->transaction.rcpt_replies;
    return receiving_end(r);
}

/* -- DATA ------------------------------------------------------------------------------------------------------------------ */

/* Up to the final dot. False: it never came, and *out is what to say. */
static bool read_to_dot(struct receiving *r, struct reply *out)
{
    uint64_t taken;

    receiving_begin_patience(r);
    while (!receiving_take(r, STREAM_INPUT_MAX, &taken)) {
        if (r->decoder.bytes > drop_max(r->s)) {
            *out = session_farewell(r->s, 421, "4.3.4", "This message has no end");
            return false;
        }
        if (!receiving_await(r, out))
            return false;
    }
    return true;
}

struct reply receive_message(struct session *s)
{
    struct receiving *r = &s->transaction.text;
    struct reply go_on = reply(354, NULL, "Go on; a dot on a line of its own ends it");
    struct reply said = reply(0, NULL, NULL);

    session_take_line(s);
    s->transaction.over = true;
    receiving_begin(r, s);
    if (r->trouble.code != 0)
        said = r->trouble;
    else if (session_send(s, &go_on) == 0 && read_to_dot(r, &said))
        said = verdict(r);
    if (said.code != 250)
        metric_add(METRIC_messages_refused, 1);
    return said;
}

/* -- BDAT ------------------------------------------------------------------------------------------------------------------ */

/* Patience goes on from chunk to chunk, as many small ones are no way to be slow either; but the time between them is not the octets'. */
static void end_pause(struct receiving *r)
{
    if (r->paused_ns > 0)
        r->patience_ns += clock_mono_ns() - r->paused_ns;
    r->paused_ns = 0;
}

/* False: they did not come, and *out is what to say. */
static bool read_octets(struct receiving *r, uint64_t size, struct reply *out)
{
    session_take_line(r->s);
    end_pause(r);
    if (beyond(r, size, drop_max(r->s))) {
        *out = session_farewell(r->s, 421, "4.3.4", "This message is far too big");
        return false;
    }
    while (size > 0) {
        uint64_t taken;
        (void)receiving_take(r, size, &taken);
        size -= taken;
        if (size > 0 && !receiving_await(r, out))
            return false;
    }
    r->paused_ns = clock_mono_ns();
    return true;
}

struct reply receive_nothing(struct session *s, uint64_t size, struct reply why)
{
    struct receiving r = { .s = s, .decoder.counted = true, .trouble = why };
    struct reply said;

    receiving_begin_patience(&r);
    return read_octets(&r, size, &said) ? why : said;
}

/* What the sizes say before the octets come (RFC 1870, 6.3): they need not be kept then. */
static void check_size(struct receiving *r, uint64_t size)
{
    if (beyond(r, size, r->s->conf->message_size_max))
        receiving_give_up(r, reply(552, "5.3.4", "The message is too big"));
}

static struct reply answer_chunk(struct receiving *r, uint64_t size, bool last)
{
    struct reply said;

    if (!read_octets(r, size, &said))
        return said;
    if (last)
        return verdict(r);
    return r->trouble.code != 0 ? r->trouble : session_reply(r->s, 250, "2.0.0", "%llu octets taken", (unsigned long long)size);
}

struct reply receive_chunk(struct session *s, uint64_t size, bool last)
{
    struct receiving *r = &s->transaction.text;
    bool in_trouble = r->trouble.code != 0;

    check_size(r, size);
    s->transaction.over = last;
    struct reply said = answer_chunk(r, size, last);
    if (said.code != 250 && !in_trouble)
        metric_add(METRIC_messages_refused, 1);
    return said;
}

void receive_begin_chunks(struct session *s)
{
    struct receiving *r = &s->transaction.text;

    receiving_begin(r, s);
    r->decoder.counted = true;
    r->decoder.binary = s->transaction.mail.body == BODY_BINARYMIME;
    receiving_begin_patience(r);
}
