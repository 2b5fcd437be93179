/*
 * A crash's report: what the process was doing when a signal that ends it came, without a byte of anybody's mail.
 *
 *     error crashed signal=11 thread=loop1 task=session doing=RCPT
 *     error crashed-at frames="+0x1c2f0 +0x1d844 - +0x20110"          addr2line -fe nightmail 0x1c2f0 ...; -: a library
 *
 * Then the process ends by that signal, as it would have without. With a sanitizer, which reports more, only SIGSYS is reported.
 */
#ifndef RUN_CRASH_H
#define RUN_CRASH_H

/* From here on SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGSYS are reported; and to the supervisor (link.h; negative: there is none) the message
 * that is being delivered, if one is (task_about). Before the loops run. */
void crash_report_begin(int link);

/* For the loops: a task that has used up its stack leaves none to report on. */
void crash_thread_begin(void);
void crash_thread_end(void);

#endif
