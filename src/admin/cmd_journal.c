/*
 * nightmail journal dump|verify: what stands in a data directory, and whether it is sound. Only reads.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "base/calendar.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "queue/verify.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define LINE_MAX_SIZE (1024 * 1024)

static void usage(FILE *to)
{
    fputs("usage: nightmail journal dump [-j] [--id ID] DIRECTORY\n"
          "       nightmail journal verify [-j] DIRECTORY\n\n"
          "DIRECTORY is a data directory, live or a copy; it is only read.\n\n"
          "dump    every record, oldest first: where it stands, what it is, and what it says\n"
          "verify  every record's checksums, and the bodies of messages that are not over\n\n"
          "  -i, --id ID   only the records of this message\n"
          "  -j, --json    JSON: an object a record, or the report\n\n"
          "Exit: 0 sound, 64 wrong use, 65 something is damaged, 66 no such directory, 76 written by a newer version\n", to);
}

/* -- dump ---------------------------------------------------------------------------------------------------------------------- */

struct dump {
    bool     json;
    uint64_t only_id;                    /* 0: all */
};

static const char *state_name(enum rcpt_state state)
{
    switch (state) {
    case RCPT_PENDING:   return "deferred";
    case RCPT_DELIVERED: return "delivered";
    case RCPT_BOUNCED:   return "bounced";
    case RCPT_FAILED:    return "failed";
    case RCPT_DISCARDED: return "discarded";
    }
    return "unknown";
}

static void put_value(struct buf *out, const char *key, struct str value)
{
    buf_printf(out, " %s=", key);
    log_put_value(out, value);
}

static void put_time(struct buf *out, const char *key, int64_t ns)
{
    if (ns == 0)
        return;
    buf_printf(out, " %s=", key);
    calendar_put_iso(out, ns, true);
}

static void put_envelope(struct buf *out, struct str bytes)
{
    struct arena a;
    struct envelope env;
    CLEANUP_BUF struct buf text;
    buf_init(&text, 4096);
    arena_init(&a, 16 * 1024 * 1024);
    if (bytes.n > 0 && envelope_parse(&a, bytes, &env) == ENVELOPE_OK) {
        address_put(&text, &env.sender);
        put_value(out, "from", buf_str(&text));
        for (size_t i = 0; i < env.rcpt_count; i++) {
            buf_clear(&text);
            address_put(&text, &env.rcpts[i].addr);
            put_value(out, "to", buf_str(&text));
        }
        put_value(out, "client", env.client_ip);
    }
    arena_reset(&a);
}

static void put_outcomes(struct buf *out, const struct record *r)
{
    struct outcome o;
    for (size_t cursor = 0; record_outcome_next(r->payload, &cursor, &o);) {
        buf_printf(out, " rcpt=%u state=%s", o.rcpt, state_name(o.state));
        put_value(out, "status", o.status);
        put_value(out, "remote", o.remote);
        put_value(out, "text", o.text);
    }
}

static void put_record(struct buf *out, const struct record *r, uint8_t type)
{
    char id[CODEC_ID_LEN + 1];
    if (r->id != 0) {
        codec_id_format(r->id, id);
        put_value(out, "id", str_of(id));
    }
    put_time(out, "time", r->time_ns);
    put_envelope(out, r->envelope);
    if (r->has_body || r->body_in_file)
        buf_printf(out, " size=%llu body=%s", (unsigned long long)r->body_size, r->body_in_file ? "file" : "inline");
    if (type == RECORD_OUTCOME)
        put_outcomes(out, r);
    if (r->has_due)
        put_time(out, "due", r->due_ns);
    if (type == RECORD_ABANDONED)
        buf_printf(out, " segment=%08x-%08x from=%llu", r->region.generation, r->region.segment, (unsigned long long)r->region.from);
    if (r->held)
        buf_put_z(out, " held");
    if (r->ended)
        buf_put_z(out, " ended");
}

static void print_json(const struct verify_record *v, struct str text)
{
    const char *type = record_type_name(v->head->type);
    json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:s, s:o}", "segment", v->segment, "offset", (json_int_t)v->offset, "sequence",
                               (json_int_t)v->head->sequence, "batch", (json_int_t)v->head->batch, "type", type != NULL ? type : "unknown", "says",
                               json_stringn(text.p != NULL ? text.p : "", text.n));
    CLEANUP_FREE char *line = json_dumps(object, JSON_COMPACT);
    if (line != NULL)
        puts(line);
    json_decref(object);
}

static void dump_record(void *arg, const struct verify_record *v)
{
    const struct dump *d = arg;
    CLEANUP_BUF struct buf text;
    if (d->only_id != 0 && (v->record == NULL || v->record->id != d->only_id))
        return;
    buf_init(&text, LINE_MAX_SIZE);
    if (v->record != NULL)
        put_record(&text, v->record, v->head->type);
    else
        buf_put_z(&text, " (makes no sense)");
    if (d->json) {
        print_json(v, str_trim(buf_str(&text)));
        return;
    }
    const char *type = record_type_name(v->head->type);
    printf("%s %8llu  #%llu batch %u  %s%" STR_FMT "\n", v->segment, (unsigned long long)v->offset, (unsigned long long)v->head->sequence,
           v->head->batch, type != NULL ? type : "unknown", STR_ARG(buf_str(&text)));
}

/* -- verify -------------------------------------------------------------------------------------------------------------------- */

static void tell_problem(void *arg, const char *words)
{
    (void)arg;
    fputs("nightmail journal: ", stderr);
    cli_print_safe(stderr, str_of(words));
    fputc('\n', stderr);
}

static void print_report(const struct verify_report *r, bool json)
{
    unsigned long long n[] = { r->segments,    r->records,     r->torn_tails, r->bodies,   r->sidecars,    r->torn_sidecars,
                               r->bad_headers, r->bad_records, r->bad_bodies, r->bad_sidecars, r->newer };
    if (json)
        printf("{\"segments\": %llu, \"records\": %llu, \"torn_tails\": %llu, \"bodies\": %llu, \"sidecars\": %llu, "
               "\"torn_sidecars\": %llu, \"bad_headers\": %llu, \"bad_records\": %llu, \"bad_bodies\": %llu, \"bad_sidecars\": %llu, "
               "\"newer\": %llu}\n",
               n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]);
    else
        printf("%llu segments, %llu records, %llu torn tails, %llu bodies, %llu sidecars (and %llu torn); "
               "damaged: %llu headers, %llu records, %llu bodies, %llu sidecars; newer: %llu\n",
               n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]);
}

static int code_of(const struct verify_report *r)
{
    if (r->bad_headers > 0 || r->bad_records > 0 || r->bad_bodies > 0 || r->bad_sidecars > 0)
        return EX_DATAERR;
    return r->newer > 0 ? EX_PROTOCOL : EX_OK;
}

int cmd_journal(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' }, { "id", required_argument, NULL, 'i' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    struct dump dump = { 0 };
    struct verify_report report;
    for (int c; (c = getopt_long(argc, argv, "ji:h", options, NULL)) != -1;) {
        switch (c) {
        case 'j': dump.json = true; break;
        case 'i':
            if (!codec_id_parse(str_of(optarg), &dump.only_id))
                return cli_fail("journal", EX_USAGE, "'%s' is no queue id", optarg);
            break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("journal");
        }
    }
    bool verify = optind < argc && strcmp(argv[optind], "verify") == 0;
    if (optind + 2 != argc || (!verify && strcmp(argv[optind], "dump") != 0))
        return cli_usage_error("journal");
    const char *dir = argv[optind + 1];
    int r = verify ? verify_all(dir, tell_problem, NULL, &report) : verify_records(dir, dump_record, &dump, &report);
    if (r < 0)
        return cli_fail("journal", r == -ENOENT ? EX_NOINPUT : EX_IOERR, "%s: %s", dir, strerror(-r));
    if (verify)
        print_report(&report, dump.json);
    return code_of(&report);
}
