/* server.c - listening, the life of a connection and of a request, the log, and stopping. */
#include "fail.h"
#include "server_state.h"
#include "tls.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DRAIN_SECONDS = 10, MEMORY_A_CONNECTION = 32 << 10 /* for the head of a request */ };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- A request ---- */

static void request_free(request *r)
{
    free(r->method);
    free(r->path);
    for (int i = 0; i < HTTP_ARGS; i++) free(r->args[i]);
    free(r->body);
    free(r);
}

static request *request_new(server *s, struct MHD_Connection *connection, const char *method,
                            const char *path)
{
    request *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->server = s;
    r->connection = connection;
    r->method = strdup(method);
    r->path = strdup(path);
    r->began_ns = now_ns();
    for (char *c = r->method; c && *c; c++)
        if (*c <= 0x20 || *c >= 0x7f) *c = '?'; /* it goes into the log */
    uint64_t number = atomic_fetch_add(&s->requests, 1);
    snprintf(r->id, sizeof r->id, "%016" PRIx64, s->salt + number * 0x9e3779b97f4a7c15u);
    if (r->method && r->path) return r;
    request_free(r);
    return NULL;
}

/* What can be refused by the head alone: a status, or 0. */
static int refuse_early(request *r)
{
    server *s = r->server;
    if (atomic_load(&s->connections) > s->options.connections) return 503;
    unsigned long long length = strtoull(http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH), NULL, 10);
    return length > s->options.max_body ? 413 : 0;
}

static void answer_refused(request *r)
{
    if (r->refused == 413)
        http_problem(r, 413, "a body may have %zu bytes", r->server->options.max_body);
    else
        http_problem(r, 503, "too many connections; try again later");
}

static int take_body(request *r, const char *data, size_t size)
{
    size_t most = r->takes_body ? r->server->options.max_body : 0;
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

/* Called with the head, then with each piece of the body, then with nothing: that is when it is answered. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **state)
{
    server *s = ctx;
    (void)version;
    request *r = *state;
    if (!r) {
        *state = r = request_new(s, connection, method, url);
        if (!r) return MHD_NO;
        atomic_fetch_add(&s->running, 1);
        r->refused = refuse_early(r);
        if (r->refused == 0) return routes_admit(r) ? MHD_YES : r->queued;
        answer_refused(r);
        return r->queued;
    }
    if (*size > 0) {
        if (r->refused) r->drained += *size; /* so that the answer is read, but not for ever */
        int taken = r->refused ? r->drained <= s->options.max_body : take_body(r, data, *size);
        *size = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (r->refused)
        answer_refused(r);
    else
        routes_answer(r);
    return r->queued;
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
    if (!s->options.log) return;
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *path = json_string(r->path);
    json_t *line = json_pack("{ss ss so ss so si sI sf}", "time", when, "id", r->id, "client", client_of(r),
                             "method", r->method, "path", path ? path : json_null(), "status", (int)r->status,
                             "bytes", (json_int_t)r->sent, "ms", seconds * 1e3);
    if (line && r->why[0]) json_object_set_new(line, "error", json_string(r->why));
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(4)) : NULL;
    if (text) {
        pthread_mutex_lock(&s->log_lock);
        fprintf(s->options.log, "%s\n", text);
        fflush(s->options.log);
        pthread_mutex_unlock(&s->log_lock);
    }
    free(text);
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

static void on_completed(void *ctx, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how)
{
    server *s = ctx;
    request *r = *state;
    (void)connection, (void)how;
    if (!r) return;
    double seconds = (double)(now_ns() - r->began_ns) * 1e-9;
    count_request(s, r, seconds);
    log_request(r, seconds);
    request_free(r);
    *state = NULL;
    atomic_fetch_sub(&s->running, 1);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    server *s = ctx;
    (void)connection, (void)state;
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        atomic_fetch_add(&s->connections, 1);
    else
        atomic_fetch_sub(&s->connections, 1);
}

/* ---- Starting and stopping ---- */

static int is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* A listening socket, so that what fails can be named. */
static kith_status listen_at(server *s, const struct addrinfo *info, kith_error *err)
{
    const server_options *o = &s->options;
    if (!is_loopback(info->ai_addr) && s->tokens.n == 0)
        return server_fail(err, KITH_INVALID, "%s is not of this machine alone: that needs --token-file",
                           o->host);
    s->listening = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (s->listening < 0 || setsockopt(s->listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(s->listening, info->ai_addr, info->ai_addrlen) != 0 || listen(s->listening, 128) != 0)
        return server_fail(err, errno == EADDRINUSE ? KITH_BUSY : KITH_IO, "%s port %u: %s", o->host, o->port,
                           strerror(errno));
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(s->listening, (struct sockaddr *)&bound, &size) != 0)
        return server_fail(err, KITH_IO, "%s: %s", o->host, strerror(errno));
    s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                : ((struct sockaddr_in *)&bound)->sin_port);
    return KITH_OK;
}

static kith_status open_socket(server *s, kith_error *err)
{
    char port[8];
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    snprintf(port, sizeof port, "%u", s->options.port);
    int code = getaddrinfo(s->options.host, port, &wanted, &found);
    if (code != 0) return server_fail(err, KITH_INVALID, "%s: %s", s->options.host, gai_strerror(code));
    kith_status status = listen_at(s, found, err);
    freeaddrinfo(found);
    return status;
}

static kith_status start_daemon(server *s, kith_error *err)
{
    const server_options *o = &s->options;
    unsigned tls = o->certificate ? MHD_USE_TLS : 0;
    /* TLS 1.0 and 1.1 are deprecated (RFC 8996). */
    static char priorities[] = "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1";
    struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)&tls_choose},
                                      {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
                                      {MHD_OPTION_END, 0, NULL}};
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG | tls, 0, NULL, NULL, on_request, s,
        MHD_OPTION_ARRAY, tls ? secure : secure + 2, MHD_OPTION_LISTEN_SOCKET, s->listening,
        MHD_OPTION_THREAD_POOL_SIZE, o->threads, MHD_OPTION_CONNECTION_LIMIT,
        2 * o->connections + 8 * o->threads, MHD_OPTION_CONNECTION_TIMEOUT, o->idle_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_A_CONNECTION, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    return s->daemon ? KITH_OK : server_fail(err, KITH_INTERNAL, "the HTTP threads cannot be started");
}

kith_status server_start(const server_options *options, server **out, kith_error *err)
{
    *out = NULL;
    server *s = calloc(1, sizeof *s);
    if (!s) return server_fail(err, KITH_NOMEM, "out of memory");
    s->options = *options;
    s->listening = -1;
    pthread_mutex_init(&s->log_lock, NULL);
    if (getrandom(&s->salt, sizeof s->salt, 0) != sizeof s->salt) s->salt = now_ns();
    kith_status status = options->token_file ? tokens_load(options->token_file, &s->tokens, err) : KITH_OK;
    if (status == KITH_OK && options->certificate) status = tls_load(options->certificate, options->key, err);
    if (status == KITH_OK) status = open_socket(s, err);
    if (status == KITH_OK)
        status = shelf_open(options->path, options->threads, options->max_megapixels, &s->shelf, err);
    if (status == KITH_OK) status = start_daemon(s, err);
    if (status == KITH_OK)
        *out = s;
    else
        server_stop(s);
    return status;
}

void server_stop(server *s)
{
    if (!s) return;
    if (s->daemon) {
        (void)MHD_quiesce_daemon(s->daemon);
        for (int i = 0; i < DRAIN_SECONDS * 100 && atomic_load(&s->running) > 0; i++)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        MHD_stop_daemon(s->daemon);
    }
    if (s->listening >= 0) close(s->listening);
    shelf_close(s->shelf);
    tokens_clear(&s->tokens);
    tls_clear();
    pthread_mutex_destroy(&s->log_lock);
    free(s);
}

kith_status server_reload(server *s, kith_error *err)
{
    return s->options.certificate ? tls_load(s->options.certificate, s->options.key, err) : KITH_OK;
}

uint16_t server_port(const server *s)
{
    return s->port;
}

size_t server_collections(const server *s)
{
    return shelf_size(s->shelf);
}

kith_status server_make_token(char token[33], char line[80], kith_error *err)
{
    return tokens_make(token, line, err);
}
