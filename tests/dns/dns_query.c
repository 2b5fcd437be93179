/*
 * Asks run/dns from the shell, for tests with other people's name servers.
 *
 *     dns_query [--forwarder IP@PORT] [--zone FILE] [--anchor FILE] [--resolv-conf FILE] [--now SECONDS] [--timeout MS] NAME TYPE ...
 *
 * One line an answer, tab between: name, type, status, secure or insecure, canonical name, then the records, sorted.
 * Exit 0 if there were answers to all, whatever they were; 1 if dns_start failed (its words on standard error); 64 for wrong usage.
 */
#include "run/dns.h"
#include "run/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 16
#define LINE_MAX 4096

static const struct {
    const char *name;
    enum dns_type type;
} types[] = {
    {"A",     DNS_A   },
    { "AAAA", DNS_AAAA},
    { "MX",   DNS_MX  },
    { "PTR",  DNS_PTR },
    { "TXT",  DNS_TXT },
    { "TLSA", DNS_TLSA},
};

static struct {
    char **questions; /* name, type, name, type, ... */
    int count;
    int64_t timeout_ns;
    int exit_code;
} job = { .timeout_ns = 10 * NS_PER_S };

static const char *status_name(enum dns_status status)
{
    switch (status) {
    case DNS_FOUND: return "found";
    case DNS_NO_DATA: return "no-data";
    case DNS_NO_NAME: return "no-name";
    case DNS_SERVFAIL: return "servfail";
    case DNS_BOGUS: return "bogus";
    }
    return NULL;
}

static bool type_of(const char *name, enum dns_type *out)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(types[i].name, name) == 0) {
            *out = types[i].type;
            return true;
        }
    return false;
}

static void format_tlsa(const struct dns_record *record, char out[LINE_MAX])
{
    int used = snprintf(out, LINE_MAX, "%u %u %u ", record->usage, record->selector, record->matching);
    for (size_t i = 0; i < record->text.n && used < LINE_MAX - 2; i++)
        used += snprintf(out + used, (size_t)(LINE_MAX - used), "%02x", (unsigned char)record->text.p[i]);
}

static void format_record(enum dns_type type, const struct dns_record *record, char out[LINE_MAX])
{
    switch (type) {
    case DNS_A: (void)inet_ntop(AF_INET, record->ip, out, LINE_MAX); return;
    case DNS_AAAA: (void)inet_ntop(AF_INET6, record->ip, out, LINE_MAX); return;
    case DNS_PTR: (void)snprintf(out, LINE_MAX, "%" STR_FMT, STR_ARG(record->name)); return;
    case DNS_MX: (void)snprintf(out, LINE_MAX, "%u %" STR_FMT ".", record->preference, STR_ARG(record->name)); return;
    case DNS_TXT: (void)snprintf(out, LINE_MAX, "%" STR_FMT, STR_ARG(record->text)); return;
    case DNS_TLSA: format_tlsa(record, out); return;
    }
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void print_answer(const char *name, const char *type_text, enum dns_type type, const struct dns_answer *answer)
{
    static char lines[DNS_RECORDS_MAX][LINE_MAX];

    for (size_t i = 0; i < answer->count; i++)
        format_record(type, &answer->records[i], lines[i]);
    qsort(lines, answer->count, LINE_MAX, compare_lines);
    printf("%s\t%s\t%s\t%s\t%" STR_FMT, name, type_text, status_name(answer->status), answer->secure ? "secure" : "insecure",
           STR_ARG(answer->canonical));
    for (size_t i = 0; i < answer->count; i++)
        printf("\t%s", lines[i]);
    printf("\n");
}

static void ask_all(void *arg)
{
    struct arena arena;

    (void)arg;
    arena_init(&arena, 16 * 1024 * 1024);
    for (int i = 0; i + 1 < job.count; i += 2) {
        struct dns_answer answer;
        enum dns_type type = DNS_A;
        (void)type_of(job.questions[i + 1], &type);
        int r = dns_query(&arena, str_of(job.questions[i]), type, task_deadline_in(job.timeout_ns), &answer);
        if (r == 0)
            print_answer(job.questions[i], job.questions[i + 1], type, &answer);
        else
            printf("%s\t%s\t%s\n", job.questions[i], job.questions[i + 1], strerror(-r));
        if (r != 0)
            job.exit_code = 1;
        arena_reset(&arena);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: dns_query [--forwarder IP@PORT] [--zone FILE] [--anchor FILE] [--resolv-conf FILE] [--now SECONDS]"
                    " [--timeout MS] NAME TYPE ...\n");
    return 64;
}

static bool read_options(int argc, char **argv, struct dns_options *out)
{
    static const struct option options[] = {
        {"forwarder",    required_argument, NULL, 'f'},
        { "zone",        required_argument, NULL, 'z'},
        { "anchor",      required_argument, NULL, 'a'},
        { "resolv-conf", required_argument, NULL, 'r'},
        { "now",         required_argument, NULL, 'n'},
        { "timeout",     required_argument, NULL, 't'},
        { NULL,          0,                 NULL, 0  },
    };
    static const char *forwarders[LIST_MAX + 1], *zones[LIST_MAX + 1];
    size_t forwarder_count = 0, zone_count = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 'f' && forwarder_count < LIST_MAX)
            forwarders[forwarder_count++] = optarg;
        else if (option == 'z' && zone_count < LIST_MAX)
            zones[zone_count++] = optarg;
        else if (option == 'a')
            out->trust_anchor_file = optarg;
        else if (option == 'r')
            out->resolv_conf = optarg;
        else if (option == 'n')
            out->now_wall_s = strtoll(optarg, NULL, 10);
        else if (option == 't')
            job.timeout_ns = strtoll(optarg, NULL, 10) * NS_PER_MS;
        else
            return false;
    }
    out->forwarders = forwarders;
    out->zone_files = zones;
    job.questions = argv + optind;
    job.count = argc - optind;
    return true;
}

int main(int argc, char **argv)
{
    struct dns_options options = { 0 };
    char error[256] = "";
    enum dns_type type;

    if (!read_options(argc, argv, &options) || job.count == 0 || job.count % 2 != 0)
        return usage();
    for (int i = 1; i < job.count; i += 2)
        if (!type_of(job.questions[i], &type))
            return usage();
    if (dns_start(&options, error) < 0) {
        fprintf(stderr, "dns_query: %s\n", error);
        return 1;
    }
    int r = loop_run(1, ask_all, NULL);
    dns_stop();
    return r < 0 ? 1 : job.exit_code;
}
