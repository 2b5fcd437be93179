/*
 * The control socket: operators' requests to a running server, over a Unix socket (0660, the operators' group).
 *
 * Each request and each answer is a JSON object behind its length (four bytes, little-endian): never lines, so nothing in
 * a value can end one. A connection may carry many requests, one after the other. The process that listens is the worker.
 * No message is longer than CONTROL_MESSAGE_MAX: lists come in pages; of recipients, "next" says where the next page begins.
 *
 *     {"do": "queue.list", "after": "0", "max": 100}   ->  {"ok": true, "items": [...], "after": "01J...", "done": false}
 *     {"do": "queue.show", "id": "01J...", "first": 0} ->  {"ok": true, "item": {...}, "recipients": [...], "next": 2000}
 *     {"do": "server.status"}                          ->  {"ok": true, "pid": 4711, "version": "0.1.0"}; "server.upgrade" likewise
 *     {"do": "queue.hold", "id": "01J..."}             ->  {"ok": true} or {"ok": false, "error": "no such message"}
 *     {"do": "queue.bounce", "id": "01J...", "reason": "nobody reads it"}    likewise; without a reason there is one of ours
 *     {"do": "queue.reroute", "id": "01J...", "to": "bob@b.example", "via": "relay.example:25"}    likewise; one of the two is enough
 *
 * With a "filter" (admin/filter.h), list, hold, release, retry, delete, bounce and reroute are for all messages that it means, page by page: the
 * next request has the "after" and the "until" of the answer, and so on to one that is "done". Nothing above "until" is meant: it came
 * after the first request, as the bounces of these very requests do. "looked" says at how many messages of "total" an answer has
 * looked, and an answer comes after some time even if none of them was meant; "unreadable" are those whose record could not be read,
 * and which were left alone. An item that could not be changed has an "error".
 */
#ifndef ADMIN_CONTROL_H
#define ADMIN_CONTROL_H

#include "queue/queue.h"
#include "run/net.h"
#include "run/task.h"
#include <jansson.h>

#define CONTROL_MESSAGE_MAX (4 * 1024 * 1024)
#define CONTROL_SESSIONS_MAX 32
#define CONTROL_NO_MESSAGE   "no such message"   /* an error that clients know */

/* -- the server's side ---- */

struct control;

/* Listens at path, owned by group ("" the server's own): before the loops run, by who may give it to that group. */
int  control_bind(const char *path, const char *group, struct net_listener **out);
/* Requests are served by tasks on the calling loop. Takes the listener if it returns 0. link: to the supervisor. */
int  control_start(struct net_listener *listener, struct queue *q, int link, struct control **out);
void control_stop(struct control *c);            /* awaits the end of its sessions; NULL is fine */

/* -- the client's side ---- */

/* Await one request and its answer. 0 with *out_answer (json_decref it): {"ok": true, ...} or {"ok": false, "error": "..."};
 * -ECONNREFUSED or -ENOENT: no server there; -EPROTO: no sense. */
struct control_client;
int  control_connect(const char *path, struct control_client **out);
int  control_request(struct control_client *c, json_t *request, json_t **out_answer);   /* takes the request */
void control_disconnect(struct control_client *c);

/* A str as a JSON string: what is not UTF-8 becomes question marks. */
json_t *control_string(struct str s);

#endif
