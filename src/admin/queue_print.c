/*
 * How `nightmail queue` shows messages: see queue_print.h.
 */
#include "admin/queue_print.h"
#include "admin/cli.h"
#include "base/calendar.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include <stdio.h>
#include <string.h>

int64_t queue_print_number(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

const char *queue_print_text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL ? value : "";
}

void queue_print_json(const json_t *object)
{
    CLEANUP_FREE char *line = json_dumps(object, JSON_COMPACT);
    if (line != NULL)
        puts(line);
}

void queue_print_item(const json_t *item)
{
    char age_bytes[64], size_bytes[64];
    struct buf age, size;
    buf_init_fixed(&age, age_bytes, sizeof(age_bytes));
    buf_init_fixed(&size, size_bytes, sizeof(size_bytes));
    cli_put_duration(&age, clock_wall_ns() - queue_print_number(item, "arrived_ns"));
    cli_put_size(&size, (uint64_t)queue_print_number(item, "size"));
    printf("%s  %-10s  %3lld of %lld to go  %10" STR_FMT "  age %" STR_FMT "  attempts %lld\n", queue_print_text(item, "id"), queue_print_text(item, "state"),
           (long long)queue_print_number(item, "pending"), (long long)queue_print_number(item, "recipients"), STR_ARG(buf_str(&size)), STR_ARG(buf_str(&age)),
           (long long)queue_print_number(item, "attempts"));
}

static void print_safe_line(const char *head, const char *value)
{
    if (value[0] == '\0')
        return;
    fputs(head, stdout);
    cli_print_safe(stdout, str_of(value));
    putchar('\n');
}

void queue_print_details(const json_t *answer)
{
    size_t i;
    const json_t *rcpt;
    queue_print_item(json_object_get(answer, "item"));
    printf("  from <");
    cli_print_safe(stdout, str_of(queue_print_text(answer, "from")));
    printf(">\n");
    print_safe_line("  client ", queue_print_text(answer, "client"));
    print_safe_line("  helo   ", queue_print_text(answer, "helo"));
    print_safe_line("  login  ", queue_print_text(answer, "login"));
    json_array_foreach(json_object_get(answer, "recipients"), i, rcpt) {
        printf("  to <");
        cli_print_safe(stdout, str_of(queue_print_text(rcpt, "to")));
        printf(">  %s\n", queue_print_text(rcpt, "state"));
        print_safe_line("     for  ", queue_print_text(rcpt, "named"));
        print_safe_line("     via  ", queue_print_text(rcpt, "via"));
        print_safe_line("     by   ", queue_print_text(rcpt, "remote"));
        print_safe_line("     said ", queue_print_text(rcpt, "text"));
    }
}

/* ---- as Postfix does ---- */

#define KIB 1024

/* "Mon Nov  3 21:06:49", in UTC: the calendar knows no zones. */
static void put_arrival(struct buf *out, int64_t wall_ns)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t day;
    int second;

    calendar_split(wall_ns / NS_PER_S, &day, &second);
    struct calendar_date date = calendar_date(day);
    buf_printf(out, "%.3s %.3s %2d %02d:%02d:%02d", days + 3 * ((day + 4) % 7), months + 3 * (date.month - 1), date.day, second / 3600,
               second / 60 % 60, second % 60);
}

/* Behind the id: * is being delivered, ! is held. */
static const char *mark(const char *state)
{
    if (strcmp(state, "delivering") == 0)
        return "*";
    return strcmp(state, "held") == 0 ? "!" : "";
}

void queue_print_postqueue_head(void)
{
    printf("%-16s %8s %-20s %s\n", "-Queue ID-", "--Size--", "----Arrival Time----", "-Sender/Recipient-------");
}

static void print_postqueue_rcpt(const json_t *rcpt)
{
    const char *reason = queue_print_text(rcpt, "text");

    if (reason[0] != '\0') {
        putchar('(');
        cli_print_safe(stdout, str_of(reason));
        fputs(")\n", stdout);
    }
    printf("%47s", "");
    cli_print_safe(stdout, str_of(queue_print_text(rcpt, "to")));
    putchar('\n');
}

void queue_print_postqueue(const json_t *answer)
{
    const json_t *item = json_object_get(answer, "item"), *rcpt;
    const char *from = queue_print_text(answer, "from");
    char time_bytes[64];
    struct buf arrival;
    size_t i;

    buf_init_fixed(&arrival, time_bytes, sizeof time_bytes);
    put_arrival(&arrival, queue_print_number(item, "arrived_ns"));
    int n = printf("%s%s", queue_print_text(item, "id"), mark(queue_print_text(item, "state")));
    printf("%*s %8lld %-20" STR_FMT " ", n < 16 ? 16 - n : 0, "", (long long)queue_print_number(item, "size"), STR_ARG(buf_str(&arrival)));
    cli_print_safe(stdout, str_of(from[0] != '\0' ? from : "MAILER-DAEMON"));
    putchar('\n');
    json_array_foreach(json_object_get(answer, "recipients"), i, rcpt)
        if (strcmp(queue_print_text(rcpt, "state"), "pending") == 0)
            print_postqueue_rcpt(rcpt);
    putchar('\n');
}

void queue_print_postqueue_end(int64_t bytes, int64_t messages)
{
    if (messages == 0)
        puts("Mail queue is empty");
    else
        printf("-- %lld Kbytes in %lld Request%s.\n", (long long)((bytes + KIB - 1) / KIB), (long long)messages, messages == 1 ? "" : "s");
}
