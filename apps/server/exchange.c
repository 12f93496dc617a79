/* exchange.c - the life of a request, as the HTTP library tells it, and the log. */
#include "import.h"
#include "server_state.h"

#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    SHORT_BODY = 1 << 20,
    LONG_ANSWER = 700 /* bytes of an answer's head, at most */
};

/* ---- A request ---- */

static void request_free(request *r)
{
    if (r->import) import_free(r);
    if (r->response) MHD_destroy_response(r->response);
    free(r->target);
    free(r->method);
    free(r->path);
    for (int i = 0; i < HTTP_ARGS; i++) free(r->args[i]);
    free(r->body);
    free(r);
}

static watched *watched_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* Its line has come. What is encoded in a target is not decoded yet: a slash that is belongs to the name that it stands in. */
void *exchange_on_target(void *ctx, const char *target, struct MHD_Connection *connection)
{
    request *r = calloc(1, sizeof *r);
    (void)connection;
    if (!r) return NULL;
    r->server = ctx;
    r->target = strndup(target, strcspn(target, "?"));
    return r;
}

/* Its head has come. 0: out of memory. */
static int request_begin(request *r, struct MHD_Connection *connection, const char *method, const char *path)
{
    server *s = r->server;
    r->connection = connection;
    r->method = strdup(method);
    r->path = strdup(path);
    r->watched = watched_of(connection);
    for (char *c = r->method; c && *c; c++)
        if (*c <= 0x20 || *c >= 0x7f) *c = '?'; /* it goes into the log */
    uint64_t number = atomic_fetch_add(&s->requests, 1);
    snprintf(r->id, sizeof r->id, "%016" PRIx64, s->salt + number * 0x9e3779b97f4a7c15u);
    if (!r->method || !r->path || !r->target) return 0;
    r->began_ns = server_now_ns();
    return 1;
}

static int is_stream(const request *r)
{
    return r->route && r->route->kind == ROUTE_STREAM;
}

static int takes_body(const request *r)
{
    return r->route && strcmp(r->route->method, "GET") != 0 && strcmp(r->route->method, "DELETE") != 0;
}

/* What a head takes of the memory of its connection: its bytes, a copy of its cookies, and what the HTTP library notes of each header,
 * cookie and argument. */
static size_t size_of_head(request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int notes = MHD_get_connection_values(
        r->connection, MHD_HEADER_KIND | MHD_COOKIE_KIND | MHD_GET_ARGUMENT_KIND, NULL, NULL);
    return (info ? info->header_size : 0) + strlen(http_header(r, MHD_HTTP_HEADER_COOKIE)) +
           SERVER_NOTE * (size_t)(notes > 0 ? notes : 0);
}

/* What can be refused by the head alone: a status, or 0. */
static int refuse_early(request *r)
{
    server *s = r->server;
    if (size_of_head(r) > s->options.max_head) return 431;
    if (atomic_load(&s->connections) > s->options.connections || atomic_load(&s->stopping)) return 503;
    unsigned long long length = strtoull(http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH), NULL, 10);
    return length > s->options.max_body && !is_stream(r) ? 413 : 0;
}

static void answer_refused(request *r)
{
    if (r->refused == 413)
        http_problem(r, 413, "a body may have %zu bytes", r->server->options.max_body);
    else if (r->refused == 431 &&
             size_of_head(r) > r->server->options.max_head + SERVER_ANSWER_ROOM - LONG_ANSWER)
        http_bare(r, 431); /* there is room for no more */
    else if (r->refused == 431)
        http_problem(r, 431,
                     "a head may have %zu bytes, those among them that each header is counted with (%d)",
                     r->server->options.max_head, SERVER_NOTE);
    else
        http_problem(r, 503, "too many connections, or about to end; try again later");
}

static int take_body(request *r, const char *data, size_t size)
{
    size_t most = r->server->options.max_body;
    if (size > most - r->body_size) {
        r->refused = 413;
        return 1;
    }
    if (r->body_size + size > r->body_room) {
        size_t room = 2 * r->body_room > r->body_size + size ? 2 * r->body_room : r->body_size + size + 4096;
        char *body = realloc(r->body, room);
        if (!body) return 0;
        r->body = body;
        r->body_room = room;
    }
    memcpy(r->body + r->body_size, data, size);
    r->body_size += size;
    return 1;
}

/* The answer goes out. */
static enum MHD_Result answer_now(request *r)
{
    watch_enter(r->server->watch, r->watched, WATCH_ANSWER, r->sent);
    return http_send(r);
}

/* Whether the body of a request that has its answer already is read before it is sent: a client that is still sending
 * when the connection is closed may never see the answer. */
static int waits_for_body(request *r)
{
    if (*http_header(r, MHD_HTTP_HEADER_EXPECT)) return 0;
    unsigned long long length = strtoull(http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH), NULL, 10);
    return length > 0 && length <= SHORT_BODY;
}

/* Go on behind the head: with the body, which may be empty, or with the answer, where there is one already. */
static enum MHD_Result read_on(request *r)
{
    return r->response && !waits_for_body(r) ? answer_now(r) : MHD_YES;
}

/* A worker looks at the password; the body waits in the socket until then. 0: not any more. */
static int prove_later(request *r)
{
    watch_enter(r->server->watch, r->watched, WATCH_OURS, 0);
    r->head_again = 1; /* before the worker has it */
    if (work_push(r->server->work, r)) return 1;
    r->head_again = 0;
    return 0;
}

/* The head has come. */
static enum MHD_Result on_head(request *r)
{
    watch_enter(r->server->watch, r->watched, WATCH_BODY, 0);
    atomic_fetch_add(&r->server->running, 1);
    routes_find(r);
    r->refused = refuse_early(r);
    if (r->refused)
        answer_refused(r);
    else if (routes_admit(r) && is_stream(r))
        import_begin(r);
    if (r->unproven) {
        if (prove_later(r)) return MHD_YES; /* it is the worker's now */
        r->refused = 503;
        answer_refused(r);
    }
    return read_on(r);
}

/* The head has come before, and what was to be found out about it is known: as with any head, nothing of the body, not even that there is
 * none, has been told yet. */
static enum MHD_Result on_head_again(request *r)
{
    r->head_again = 0;
    return read_on(r);
}

/* A piece of the body. */
static enum MHD_Result on_body(request *r, const char *data, size_t *size)
{
    watch_came(r->server->watch, r->watched, *size);
    if (r->paused) watch_enter(r->server->watch, r->watched, WATCH_BODY, 0);
    r->paused = 0;
    if (r->import) {
        *size -= import_take(r, data, *size);
        return r->drained <= r->server->options.max_body ? MHD_YES : MHD_NO;
    }
    int dropped = r->refused || r->response || !takes_body(r);
    if (dropped) r->drained += *size; /* so that the answer is read, but not for ever */
    int taken = dropped ? r->drained <= r->server->options.max_body : take_body(r, data, *size);
    *size = 0;
    return taken ? MHD_YES : MHD_NO;
}

/* All of it has come, or a suspended connection is resumed: it may be answered. */
static enum MHD_Result on_end(request *r)
{
    watch_enter(r->server->watch, r->watched, WATCH_OURS, 0);
    if (r->given_away || r->response) return answer_now(r);
    if (r->refused) {
        answer_refused(r);
    } else if (r->import) {
        if (!import_finish(r)) return MHD_YES;
    } else if (routes_is_long(r)) {
        server *s = r->server;
        if (work_push(r->route->kind == ROUTE_WRITE ? s->writing : s->work, r)) return MHD_YES;
        r->refused = 503;
        answer_refused(r);
    } else {
        routes_answer(r);
    }
    return answer_now(r);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A %00 stays as it is: it would cut short what follows, so that one name could pass for another. */
char exchange_next(const char **at)
{
    const char *in = *at;
    int high = in[0] == '%' ? hex_digit(in[1]) : -1, low = high >= 0 ? hex_digit(in[2]) : -1;
    int is_code = low >= 0 && 16 * high + low > 0;
    *at += is_code ? 3 : 1;
    return is_code ? (char)(16 * high + low) : *in;
}

/* Decode in place. */
size_t exchange_unescape(void *ctx, struct MHD_Connection *connection, char *words)
{
    char *out = words;
    (void)ctx, (void)connection;
    for (const char *in = words; *in;) *out++ = exchange_next(&in);
    *out = 0;
    return (size_t)(out - words);
}

/* Called with the head, then with each piece of the body, then with nothing; a connection that was suspended with its head is told of the
 * head again, so that the call with nothing that comes first is not the end. */
enum MHD_Result exchange_on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *data, size_t *size,
                                    void **state)
{
    request *r = *state;
    (void)ctx, (void)version;
    if (!r) return MHD_NO; /* there was no memory for it */
    if (!r->connection) return request_begin(r, connection, method, url) ? on_head(r) : MHD_NO;
    if (*size > 0) return on_body(r, data, size);
    return r->head_again ? on_head_again(r) : on_end(r);
}

/* ---- The log ---- */

static json_t *client_of(request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[64] = "?";
    if (info && info->client_addr)
        (void)getnameinfo(info->client_addr,
                          info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                   : sizeof(struct sockaddr_in),
                          host, sizeof host, NULL, 0, NI_NUMERICHOST);
    return json_string(host);
}

static void log_request(request *r, double seconds)
{
    server *s = r->server;
    FILE *log = s->options.log ? s->options.log
                : r->is_fault  ? stderr
                               : NULL; /* its answer says that it is told */
    if (!log) return;
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *path = json_string(r->path);
    json_t *line = json_pack("{ss ss so ss so si sI sf}", "time", when, "id", r->id, "client", client_of(r),
                             "method", r->method, "path", path ? path : json_null(), "status", (int)r->status,
                             "bytes", (json_int_t)r->sent, "ms", seconds * 1e3);
    if (line && r->why[0]) json_object_set_new(line, "error", json_string(r->why));
    char *words = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(4)) : NULL;
    if (words) {
        pthread_mutex_lock(&s->log_lock);
        fprintf(log, "%s\n", words);
        fflush(log);
        pthread_mutex_unlock(&s->log_lock);
    }
    free(words);
    json_decref(line);
}

static void count_request(server *s, const request *r, double seconds)
{
    static const double ends[] = SERVER_TIMES;
    size_t slot = 0;
    while (slot < SERVER_N_TIMES && seconds > ends[slot]) slot++;
    atomic_fetch_add(&s->by_time[slot], 1);
    atomic_fetch_add(&s->by_class[r->status / 100 < 6 ? r->status / 100 : 0], 1);
    atomic_fetch_add(&s->micros, (uint64_t)(seconds * 1e6));
}

void exchange_on_completed(void *ctx, struct MHD_Connection *connection, void **state,
                           enum MHD_RequestTerminationCode how)
{
    server *s = ctx;
    request *r = *state;
    (void)connection, (void)how;
    *state = NULL;
    if (!r) return;
    if (!r->began_ns) { /* no more than its line came */
        request_free(r);
        return;
    }
    double seconds = (double)(server_now_ns() - r->began_ns) * 1e-9;
    count_request(s, r, seconds);
    log_request(r, seconds);
    watch_enter(s->watch, r->watched, WATCH_HEAD, 1);
    request_free(r);
    atomic_fetch_sub(&s->running, 1);
}

void exchange_on_connection(void *ctx, struct MHD_Connection *connection, void **state,
                            enum MHD_ConnectionNotificationCode what)
{
    server *s = ctx;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        atomic_fetch_add(&s->connections, 1);
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *state = info ? watch_open(s->watch, info->connect_fd) : NULL;
    } else {
        atomic_fetch_sub(&s->connections, 1);
        watch_close(s->watch, *state);
        *state = NULL;
    }
}
