/*
 * http.c
 *	  libcurl's multi interface beside a PostgreSQL latch.
 *
 * All sockets of an engine stand in one epoll descriptor, the mux, which fits
 * into a wait set that never changes.  libcurl's callbacks move bytes into
 * malloc'd memory and return codes: no palloc, no ereport and no jump inside
 * them, or libcurl would be left half-way.  Signals are blocked around calls of
 * libcurl, so that the threads in which it resolves names inherit the mask and
 * never run PostgreSQL's handlers.
 *
 * What a remote does is data in HttpResult.  No SPI here, no retries, and no
 * knowledge of any platform.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <ctype.h>
#include <curl/curl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "http.h"
#include "pgsync_itsm.h"

#define USER_AGENT "pgsync_itsm/" PGSYNC_ITSM_VERSION
#define MAX_IDLE_HANDLES 64			/* easy handles kept for the next transfers */
#define MAX_CONNECTIONS 64			/* connections kept open */
#define MAX_KEPT_BODY (1024 * 1024) /* a larger answer does not make room for the next at once */
#define EVENTS_A_ROUND 64
#define ROUNDS_A_DRIVE 16 /* then the latch has its turn */
#define MAX_HOST 256
#define MAX_ORIGIN (MAX_HOST + 32)
#define MAX_LIST 1024 /* longer lists of hosts are gone through for each request */
#define MAX_MESSAGE (CURL_ERROR_SIZE + MAX_HOST + 128)

typedef enum TransferState
{
	TRANSFER_ACTIVE,
	TRANSFER_FINISHED, /* waits in engine->finished */
	TRANSFER_TAKEN	   /* its owner has it */
} TransferState;

/* What an address consists of, as far as we care. */
typedef struct Address
{
	char scheme[16];
	char host[MAX_HOST];
	char port[8];
	bool has_user;
	bool has_fragment;
} Address;

/* An origin ("https://host:port") that was found allowed, and the settings that allowed it. */
typedef struct Origin
{
	char	text[MAX_ORIGIN];
	size_t	len; /* 0: none */
	char	allowed[MAX_LIST];
	char	insecure[MAX_LIST];
	Address address;
} Origin;

struct HttpEngine
{
	CURLM				 *multi;
	int					  mux;
	bool				  has_mux;
	int64				  deadline_us; /* monotonic; -1 = libcurl has no timer */
	int64				  phases_us;   /* monotonic: next look at how long phases last */
	dlist_head			  active;
	dlist_head			  finished;
	dlist_head			  taken;
	int					  busy;
	CURL				 *idle[MAX_IDLE_HANDLES];
	int					  nidle;
	Origin				  origin;
	MemoryContextCallback on_reset;
};

/* malloc'd: filled by callbacks. */
struct HttpTransfer
{
	dlist_node		   node;
	HttpEngine		  *engine;
	TransferState	   state;
	CURL			  *easy;
	bool			   in_multi;
	struct curl_slist *headers;
	bool			   secret;
	bool			   once;
	char			  *request_body;
	size_t			   request_len;
	size_t			   request_sent;
	char			  *body;
	size_t			   body_cap;
	size_t			   body_max;
	bool			   too_large;
	bool			   answering; /* a line of the answer has come */
	bool			   no_memory;
	void			  *owner;
	HttpResult		   result;
	char			   host[MAX_HOST];
	bool			   https;
	int				   timeout_ms;
	int64			   begun_us; /* monotonic */
	char			   content_type[128];
	char			   rate_rule[64];
	char			   message[MAX_MESSAGE];
	char			   curl_error[CURL_ERROR_SIZE];
};

static const char empty_body[1] = "";

/* ------------------------------------------------------------ small helpers */

static int64
monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Everything but what the CPU raises; a thread that libcurl starts keeps it. */
static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
unblock_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

static void
free_zeroed(char *memory, size_t len, bool secret)
{
	if (memory == NULL)
		return;
	if (secret)
		explicit_bzero(memory, len);
	free(memory);
}

static void
free_headers(struct curl_slist *headers)
{
	struct curl_slist *line;

	for (line = headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(headers);
}

/* ---------------------------------------------------- libcurl's callbacks */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	HttpEngine		  *engine = userp;
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		/* may be closed already, then the kernel has forgotten it */
		(void) epoll_ctl(engine->mux, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.data.fd = fd;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		event.events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(engine->mux, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return epoll_ctl(engine->mux, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *userp)
{
	HttpEngine *engine = userp;

	engine->deadline_us = timeout_ms < 0 ? -1 : monotonic_us() + (int64) timeout_ms * 1000;
	return 0;
}

/* Room for len more bytes and a NUL; false without changing anything if there is none. */
static bool
make_room(HttpTransfer *transfer, size_t len)
{
	size_t needed = transfer->result.body_len + len + 1;
	size_t cap = transfer->body_cap ? transfer->body_cap : 4096;
	char  *larger;

	if (needed <= transfer->body_cap)
		return true;
	while (cap < needed)
		cap *= 2;
	if (!transfer->secret)
		larger = realloc(transfer->body, cap);
	else if ((larger = malloc(cap)) != NULL && transfer->body != NULL)
	{
		memcpy(larger, transfer->body, transfer->result.body_len);
		free_zeroed(transfer->body, transfer->body_cap, true);
	}
	if (larger == NULL)
		return false;
	transfer->body = larger;
	transfer->body_cap = cap;
	return true;
}

static size_t
on_body(char *data, size_t size, size_t nmemb, void *userp)
{
	HttpTransfer *transfer = userp;
	size_t		  len = size * nmemb;

	if (len > transfer->body_max - transfer->result.body_len)
	{
		transfer->too_large = true;
		return 0;
	}
	if (!make_room(transfer, len))
	{
		transfer->no_memory = true;
		return 0;
	}
	memcpy(transfer->body + transfer->result.body_len, data, len);
	transfer->result.body_len += len;
	transfer->body[transfer->result.body_len] = '\0';
	return len;
}

static size_t
on_send(char *buffer, size_t size, size_t nmemb, void *userp)
{
	HttpTransfer *transfer = userp;
	size_t		  len = Min(size * nmemb, transfer->request_len - transfer->request_sent);

	memcpy(buffer, transfer->request_body + transfer->request_sent, len);
	transfer->request_sent += len;
	return len;
}

/*
 * libcurl rewinds the body when a kept-alive connection died under it and it
 * wants to send the request again.  What must not be sent twice is not rewound
 * once a byte of it is gone; the transfer fails then, in doubt.
 */
static int
on_rewind(void *userp, curl_off_t offset, int origin)
{
	HttpTransfer *transfer = userp;

	if (origin != SEEK_SET || offset != 0 || (transfer->once && transfer->request_sent > 0))
		return CURL_SEEKFUNC_FAIL;
	if (transfer->request_sent > 0)
		transfer->result.repeated = true;
	transfer->request_sent = 0;
	return CURL_SEEKFUNC_OK;
}

static int64
header_number(const char *value)
{
	char	 *end;
	long long number;

	errno = 0;
	number = strtoll(value, &end, 10);
	return end != value && errno == 0 && number >= 0 ? (int64) number : -1;
}

/* Seconds, or an HTTP date. RFC 9110 10.2.3 */
static long
retry_after(const char *value)
{
	int64  seconds = header_number(value);
	time_t at;

	if (seconds < 0)
	{
		at = curl_getdate(value, NULL);
		if (at == (time_t) -1)
			return -1;
		seconds = Max((int64) at - (int64) time(NULL), 0);
	}
	return (long) Min(seconds, INT_MAX);
}

static void
forget_headers(HttpTransfer *transfer)
{
	transfer->content_type[0] = '\0';
	transfer->rate_rule[0] = '\0';
	transfer->result.retry_after_s = -1;
	transfer->result.rate_headers = false;
	transfer->result.rate_limit = -1;
	transfer->result.rate_reset = -1;
	transfer->result.total_count = -1;
}

/* A NUL-terminated line without its end; name and value in place. */
static void
read_header(HttpTransfer *transfer, char *line)
{
	HttpResult *result = &transfer->result;
	char	   *value = strchr(line, ':');

	if (value == NULL)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");

	if (strcasecmp(line, "Content-Type") == 0)
		strlcpy(transfer->content_type, value, sizeof(transfer->content_type));
	else if (strcasecmp(line, "Retry-After") == 0)
		result->retry_after_s = retry_after(value);
	else if (strcasecmp(line, "X-Total-Count") == 0)
		result->total_count = header_number(value);
	else if (strncasecmp(line, "X-RateLimit-", 12) == 0)
	{
		result->rate_headers = true;
		if (strcasecmp(line + 12, "Limit") == 0)
			result->rate_limit = header_number(value);
		else if (strcasecmp(line + 12, "Reset") == 0)
			result->rate_reset = header_number(value);
		else if (strcasecmp(line + 12, "Rule") == 0)
			strlcpy(transfer->rate_rule, value, sizeof(transfer->rate_rule));
	}
}

static size_t
on_header(char *data, size_t size, size_t nmemb, void *userp)
{
	HttpTransfer *transfer = userp;
	size_t		  len = size * nmemb;
	char		  line[256];
	size_t		  used = Min(len, sizeof(line) - 1);

	memcpy(line, data, used);
	while (used > 0 && (line[used - 1] == '\r' || line[used - 1] == '\n'))
		used--;
	line[used] = '\0';
	transfer->answering = true;
	if (strncmp(line, "HTTP/", 5) == 0)
		forget_headers(transfer); /* of a 1xx answer before this one */
	else
		read_header(transfer, line);
	return len;
}

/* ----------------------------------------------------- which hosts are allowed */

static const char *
next_entry(const char **list, size_t *len)
{
	const char *start = *list;
	const char *end;

	start += strspn(start, " \t\r\n,");
	if (*start == '\0')
		return NULL;
	end = start + strcspn(start, ",");
	*list = end;
	while (end > start && strchr(" \t\r\n", end[-1]) != NULL)
		end--;
	*len = end - start;
	return start;
}

/* Length of the entry without ":port"; an IPv6 address stands in brackets. */
static size_t
host_part(const char *entry, size_t len)
{
	size_t i = len;

	while (i > 0 && isdigit((unsigned char) entry[i - 1]))
		i--;
	if (i > 1 && i < len && entry[i - 1] == ':')
		return i - 1;
	return len;
}

static const char *
entry_problem(const char *entry, size_t len, bool wildcards)
{
	static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
	size_t			  host_len = host_part(entry, len);
	size_t			  skip = 0;

	if (host_len >= MAX_HOST)
		return "A name in it is too long.";
	if (len >= 3 && memcmp(entry, "://", 3) == 0)
		return "An entry is a host, not an address.";
	if (host_len > 2 && entry[0] == '*' && entry[1] == '.')
	{
		if (!wildcards)
			return "Wildcards cannot be used here.";
		skip = 2;
	}
	if (entry[0] == '*' && skip == 0)
		return wildcards ? "A wildcard stands only before a domain, as in *.example.com."
						 : "Wildcards cannot be used here.";
	if (entry[0] == '[' && entry[host_len - 1] == ']')
		return strspn(entry + 1, "0123456789abcdefABCDEF:.") == host_len - 2 ? NULL
																			 : "An IPv6 address in it is not valid.";
	if (strspn(entry + skip, name_chars) < host_len - skip)
		return memchr(entry, '/', len) ? "An entry is a host without scheme and path."
									   : "A name in it has characters that no host has.";
	return NULL;
}

const char *
http_check_host_list(const char *list, bool wildcards)
{
	const char *entry;
	size_t		len;

	while ((entry = next_entry(&list, &len)) != NULL)
	{
		const char *problem = entry_problem(entry, len, wildcards);

		if (problem != NULL)
			return problem;
	}
	return NULL;
}

static bool
entry_matches(const char *entry, size_t len, const Address *address)
{
	size_t entry_host = host_part(entry, len);
	size_t host_len = strlen(address->host);

	if (entry_host < len)
	{
		const char *port = entry + entry_host + 1;
		size_t		port_len = len - entry_host - 1;

		if (strlen(address->port) != port_len || memcmp(port, address->port, port_len) != 0)
			return false;
	}
	if (entry_host > 2 && entry[0] == '*')
	{
		size_t suffix = entry_host - 1; /* with its dot */

		return host_len > suffix && pg_strncasecmp(address->host + host_len - suffix, entry + 1, suffix) == 0;
	}
	return host_len == entry_host && pg_strncasecmp(address->host, entry, host_len) == 0;
}

static bool
host_listed(const char *list, const Address *address)
{
	const char *entry;
	size_t		len;

	while ((entry = next_entry(&list, &len)) != NULL)
	{
		if (entry_matches(entry, len, address))
			return true;
	}
	return false;
}

/* Copies one part of a parsed address; false if there is none or it does not fit. */
static bool
address_part(CURLU *url, CURLUPart what, unsigned int flags, char *out, size_t size)
{
	char *part = NULL;
	bool  fits;

	if (curl_url_get(url, what, &part, flags) != CURLUE_OK)
		return false;
	fits = strlcpy(out, part, size) < size;
	curl_free(part);
	return fits;
}

static bool
address_has_user(CURLU *url)
{
	char *part = NULL;
	bool  user = curl_url_get(url, CURLUPART_USER, &part, 0) != CURLUE_NO_USER;

	curl_free(part);
	part = NULL;
	user = curl_url_get(url, CURLUPART_PASSWORD, &part, 0) != CURLUE_NO_PASSWORD || user;
	curl_free(part);
	return user;
}

static bool
has_odd_characters(const char *text)
{
	for (const char *at = text; *at != '\0'; at++)
	{
		if ((unsigned char) *at <= ' ' || (unsigned char) *at >= 0x7f || *at == '\\')
			return true;
	}
	return false;
}

/* NULL, or what is wrong with it.  libcurl's own parser, so that both see the same host. */
static const char *
read_address(const char *text, Address *address)
{
	CURLU	 *url;
	CURLUcode code;
	char	  ignored[MAX_HOST];
	size_t	  len;
	bool	  complete;

	memset(address, 0, sizeof(*address));
	if (has_odd_characters(text))
		return "it has characters that no address has";
	url = curl_url();
	if (url == NULL)
		return "there is no memory to read it";
	code = curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
	complete = code == CURLUE_OK && address_part(url, CURLUPART_SCHEME, 0, address->scheme, sizeof(address->scheme)) &&
			   address_part(url, CURLUPART_HOST, 0, address->host, sizeof(address->host));
	if (complete)
	{
		(void) address_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, address->port, sizeof(address->port));
		address->has_user = address_has_user(url);
		address->has_fragment = address_part(url, CURLUPART_FRAGMENT, 0, ignored, sizeof(ignored));
	}
	curl_url_cleanup(url);

	len = strlen(address->host);
	if (len > 1 && address->host[len - 1] == '.')
		address->host[len - 1] = '\0';
	return complete && address->host[0] != '\0'
			   ? NULL
			   : "it is no valid address, which looks like https://acme.service-now.com";
}

/* The reason in words, into buf; false if there is one. */
static bool
address_allowed(const char *text, Address *address, char *buf, size_t size)
{
	const char *problem = read_address(text, address);
	bool		insecure_ok;

	if (problem != NULL)
		snprintf(buf, size, "%s", problem);
	else if (strcmp(address->scheme, "https") != 0 && strcmp(address->scheme, "http") != 0)
		snprintf(buf, size, "its scheme is \"%s\", only https is spoken", address->scheme);
	else if (address->has_user)
		snprintf(buf, size, "it has a user name in it; credentials are stored apart, sealed");
	else if (address->has_fragment)
		snprintf(buf, size, "it has a fragment (#) in it");
	else
	{
		insecure_ok = host_listed(pgsync_itsm_allow_insecure_hosts, address);
		if (insecure_ok || (strcmp(address->scheme, "https") == 0 && host_listed(pgsync_itsm_allowed_hosts, address)))
			return true;
		if (strcmp(address->scheme, "http") == 0)
			snprintf(buf, size,
					 "plain http is refused; use https, or, for a test, let a superuser add \"%s:%s\" to "
					 "pgsync_itsm.allow_insecure_hosts",
					 address->host, address->port);
		else
			snprintf(buf, size, "the host \"%s\" is not in pgsync_itsm.allowed_hosts; a superuser may add it there",
					 address->host);
	}
	return false;
}

/*
 * Is it an address of the origin that was allowed last, by settings that are
 * the same still?  What is before the path decides about host and scheme, so
 * that the same text there means the same answer.
 */
static bool
is_known_origin(const Origin *origin, const char *text)
{
	return origin->len > 0 && strncmp(text, origin->text, origin->len) == 0 && text[origin->len] == '/' &&
		   strchr(text, '#') == NULL && !has_odd_characters(text) &&
		   strcmp(origin->allowed, pgsync_itsm_allowed_hosts) == 0 &&
		   strcmp(origin->insecure, pgsync_itsm_allow_insecure_hosts) == 0;
}

static void
remember_origin(Origin *origin, const char *text, const Address *address)
{
	const char *host = strstr(text, "://");
	size_t		len = host ? (host - text) + 3 + strcspn(host + 3, "/?#@") : 0;

	origin->len = 0;
	if (len == 0 || len >= sizeof(origin->text) || text[len] != '/' ||
		strlcpy(origin->allowed, pgsync_itsm_allowed_hosts, MAX_LIST) >= MAX_LIST ||
		strlcpy(origin->insecure, pgsync_itsm_allow_insecure_hosts, MAX_LIST) >= MAX_LIST)
		return;
	strlcpy(origin->text, text, len + 1);
	origin->address = *address;
	origin->len = len;
}

/* address_allowed(), for what asks the same host again and again. */
static bool
request_allowed(HttpEngine *engine, const char *text, Address *address, char *buf, size_t size)
{
	if (is_known_origin(&engine->origin, text))
	{
		*address = engine->origin.address;
		return true;
	}
	if (!address_allowed(text, address, buf, size))
		return false;
	remember_origin(&engine->origin, text, address);
	return true;
}

bool
http_check_url(const char *url, char **reason)
{
	Address address;
	char	buf[MAX_MESSAGE];

	if (address_allowed(url, &address, buf, sizeof(buf)))
		return true;
	*reason = pstrdup(buf);
	return false;
}

/* ------------------------------------------------------------------- requests */

void
http_request_init(HttpRequest *request, const char *method, const char *url)
{
	memset(request, 0, sizeof(*request));
	request->method = method;
	request->url = url;
}

void
http_request_header(HttpRequest *request, const char *name, const char *value)
{
	size_t size = strlen(name) + 2 + strlen(value) + 1;
	char  *line;

	if (strpbrk(value, "\r\n") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the value of the HTTP header \"%s\" has a line break in it", name),
						errhint("Is there a line break in the stored credential?")));
	if (request->nheaders >= HTTP_MAX_HEADERS)
		elog(ERROR, "too many HTTP headers");
	line = palloc(size);
	strlcpy(line, name, size);
	strlcat(line, ": ", size);
	strlcat(line, value, size);
	request->headers[request->nheaders++] = line;
}

void
http_request_clear(HttpRequest *request)
{
	int i;

	for (i = 0; i < request->nheaders; i++)
	{
		explicit_bzero(request->headers[i], strlen(request->headers[i]));
		pfree(request->headers[i]);
	}
	request->nheaders = 0;
	if (request->secret && request->body != NULL)
		explicit_bzero(unconstify(char *, request->body), request->body_len);
	request->body = NULL;
	request->body_len = 0;
}

void
http_append_escaped(StringInfo buf, const char *text)
{
	static const char	 hex[] = "0123456789ABCDEF";
	const unsigned char *at;

	for (at = (const unsigned char *) text; *at != '\0'; at++)
	{
		if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '-' ||
			*at == '.' || *at == '_' || *at == '~')
			appendStringInfoChar(buf, (char) *at);
		else
		{
			appendStringInfoChar(buf, '%');
			appendStringInfoChar(buf, hex[*at >> 4]);
			appendStringInfoChar(buf, hex[*at & 15]);
		}
	}
}

/* --------------------------------------------------------- engine, its life */

static void
init_library(void)
{
	static bool done = false;
	sigset_t	saved;
	CURLcode	code;

	if (done)
		return;
	if (IsPostmasterEnvironment && !IsUnderPostmaster)
		elog(ERROR, "libcurl cannot be used in the postmaster");
	block_signals(&saved);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	unblock_signals(&saved);
	if (code != CURLE_OK)
		elog(ERROR, "could not initialize libcurl: %s", curl_easy_strerror(code));
	done = true;
}

static void
release_engine(void *arg)
{
	http_engine_destroy((HttpEngine *) arg);
}

static void
set_multi_options(HttpEngine *engine)
{
	bool ok = true;

	ok = ok && curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK;
	ok = ok && curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine) == CURLM_OK;
	ok = ok && curl_multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK;
	ok = ok && curl_multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine) == CURLM_OK;
	ok = ok && curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, (long) MAX_CONNECTIONS) == CURLM_OK;
	if (!ok)
		elog(ERROR, "could not set up libcurl");
}

HttpEngine *
http_engine_create(void)
{
	HttpEngine *engine = palloc0(sizeof(HttpEngine));

	init_library();
	dlist_init(&engine->active);
	dlist_init(&engine->finished);
	dlist_init(&engine->taken);
	engine->deadline_us = -1;
	engine->on_reset.func = release_engine;
	engine->on_reset.arg = engine;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &engine->on_reset);

	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("there is no file descriptor left for HTTP")));
	engine->mux = epoll_create1(EPOLL_CLOEXEC);
	if (engine->mux < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not create an epoll descriptor: %m")));
	}
	engine->has_mux = true;
	engine->multi = curl_multi_init();
	if (engine->multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	set_multi_options(engine);
	return engine;
}

static void
free_transfers(dlist_head *list)
{
	while (!dlist_is_empty(list))
		http_transfer_free(dlist_head_element(HttpTransfer, node, list));
}

/* Also what a context's end calls, so nothing in here may throw. */
void
http_engine_destroy(HttpEngine *engine)
{
	sigset_t saved;

	if (engine->multi != NULL)
	{
		free_transfers(&engine->active);
		free_transfers(&engine->finished);
		free_transfers(&engine->taken);
		block_signals(&saved);
		while (engine->nidle > 0)
			curl_easy_cleanup(engine->idle[--engine->nidle]);
		curl_multi_cleanup(engine->multi);
		unblock_signals(&saved);
		engine->multi = NULL;
	}
	if (engine->has_mux)
	{
		close(engine->mux);
		ReleaseExternalFD();
		engine->has_mux = false;
	}
}

int
http_mux_fd(const HttpEngine *engine)
{
	return engine->mux;
}

int
http_busy(const HttpEngine *engine)
{
	return engine->busy;
}

long
http_deadline_ms(const HttpEngine *engine)
{
	int64 deadline = engine->deadline_us;
	int64 left;

	if (!dlist_is_empty(unconstify(dlist_head *, &engine->finished)))
		return 0;
	if (!dlist_is_empty(unconstify(dlist_head *, &engine->active)))
		deadline = deadline < 0 ? engine->phases_us : Min(deadline, engine->phases_us);
	if (deadline < 0)
		return -1;
	left = deadline - monotonic_us();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

/* ------------------------------------------------------------ one transfer */

int
http_request_timeout(int timeout_ms)
{
	double scale = (double) pgsync_itsm_request_timeout / PGSYNC_ITSM_REQUEST_TIMEOUT;

	return timeout_ms > 0 ? (int) Min(timeout_ms * scale, 3600.0 * 1000) : pgsync_itsm_request_timeout;
}

/* How often to look whether a phase lasts too long: libcurl itself knows only the sum of the first three. */
static int64
phase_interval_us(void)
{
	int shortest = Min(Min(pgsync_itsm_resolve_timeout, pgsync_itsm_connect_timeout), pgsync_itsm_tls_timeout);

	if (pgsync_itsm_first_byte_timeout > 0)
		shortest = Min(shortest, pgsync_itsm_first_byte_timeout);
	return Max((int64) shortest * 1000 / 4, 20 * 1000);
}

/* All that comes before a request; each part has a limit of its own, see check_phases(). */
static long
connection_timeout(void)
{
	return (long) pgsync_itsm_resolve_timeout + pgsync_itsm_connect_timeout + pgsync_itsm_tls_timeout;
}

/* Who may be spoken to, how, and what is never done. */
static bool
set_policy(CURL *easy, HttpTransfer *transfer, const HttpRequest *request)
{
	bool		ok = true;
	const char *proxy = transfer->https ? pgsync_itsm_https_proxy : "";

	ok = ok && curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK;
	ok = ok && compat_curl_protocols(easy, !transfer->https) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_PROXY, proxy) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_NOPROXY, "") == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
	ok = ok && compat_curl_quick_exit(easy) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_USERAGENT, USER_AGENT) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip") == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connection_timeout()) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) transfer->timeout_ms) == CURLE_OK;
	return ok;
}

/* A ca_file is all that is trusted then, not an addition. */
static bool
set_tls(CURL *easy, const HttpRequest *request)
{
	bool ok = true;

	ok = ok && curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK;
	if (pgsync_itsm_ca_file[0] != '\0')
	{
		ok = ok && curl_easy_setopt(easy, CURLOPT_CAINFO, pgsync_itsm_ca_file) == CURLE_OK;
		ok = ok && curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK;
	}
	if (request->client_cert_file != NULL)
		ok = ok && curl_easy_setopt(easy, CURLOPT_SSLCERT, request->client_cert_file) == CURLE_OK;
	if (request->client_key_file != NULL)
		ok = ok && curl_easy_setopt(easy, CURLOPT_SSLKEY, request->client_key_file) == CURLE_OK;
	return ok;
}

static bool
set_callbacks(CURL *easy, HttpTransfer *transfer)
{
	bool ok = true;

	ok = ok && curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_error) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) transfer->body_max) == CURLE_OK;
	return ok;
}

/*
 * The body comes through on_send, so that on_rewind decides about repetitions,
 * and sees them.  Where neither matters, libcurl has it all: then header and
 * body are one packet instead of two, which saves an eighth of what a small
 * request costs the worker.
 */
static bool
set_body_source(CURL *easy, HttpTransfer *transfer, const HttpRequest *request)
{
	bool ok = true;

	if (request->freely)
		return curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request_body) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_READDATA, transfer) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer) == CURLE_OK;
	return ok;
}

static bool
set_body(CURL *easy, HttpTransfer *transfer, const HttpRequest *request)
{
	bool ok = true;

	if (request->body == NULL)
	{
		ok = ok && curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;
		if (strcmp(request->method, "GET") != 0)
			ok = ok && curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
		return ok;
	}
	transfer->request_body = malloc(request->body_len + 1);
	if (transfer->request_body == NULL)
		return false;
	memcpy(transfer->request_body, request->body, request->body_len);
	transfer->request_len = request->body_len;
	ok = ok && curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len) == CURLE_OK;
	ok = ok && set_body_source(easy, transfer, request);
	if (strcmp(request->method, "POST") != 0)
		ok = ok && curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
	return ok;
}

static bool
add_header(HttpTransfer *transfer, const char *line)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, line);

	if (longer == NULL)
		return false;
	transfer->headers = longer;
	return true;
}

static bool
set_headers(CURL *easy, HttpTransfer *transfer, const HttpRequest *request)
{
	char line[160];
	bool ok = true;
	int	 i;

	/* also where there is none: some platforms want it on a DELETE */
	if (request->body != NULL || request->content_type != NULL)
	{
		snprintf(line, sizeof(line), "Content-Type: %s",
				 request->content_type ? request->content_type : "application/json");
		ok = ok && add_header(transfer, line);
	}
	ok = ok && add_header(transfer, "Accept: application/json");
	ok = ok && add_header(transfer, "Expect:");
	for (i = 0; i < request->nheaders; i++)
		ok = ok && add_header(transfer, request->headers[i]);
	return ok && curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers) == CURLE_OK;
}

static HttpTransfer *
new_transfer(HttpEngine *engine, const HttpRequest *request)
{
	HttpTransfer *transfer = calloc(1, sizeof(HttpTransfer));

	if (transfer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	transfer->engine = engine;
	transfer->state = TRANSFER_ACTIVE;
	transfer->secret = request->secret;
	transfer->once = request->once;
	transfer->owner = request->owner;
	transfer->timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : pgsync_itsm_request_timeout;
	transfer->body_max = (size_t) pgsync_itsm_max_response_size * 1024;
	transfer->result.started_at = GetCurrentTimestamp();
	transfer->begun_us = monotonic_us();
	forget_headers(transfer);
	if (dlist_is_empty(&engine->active))
		engine->phases_us = transfer->begun_us + phase_interval_us();
	dlist_push_tail(&engine->active, &transfer->node);
	engine->busy++;
	return transfer;
}

static void
set_state(HttpTransfer *transfer, TransferState state)
{
	HttpEngine *engine = transfer->engine;

	dlist_delete(&transfer->node);
	transfer->state = state;
	dlist_push_tail(state == TRANSFER_FINISHED ? &engine->finished : &engine->taken, &transfer->node);
}

static bool
start_transfer(HttpTransfer *transfer, const HttpRequest *request)
{
	HttpEngine *engine = transfer->engine;
	CURL	   *easy = engine->nidle > 0 ? engine->idle[--engine->nidle] : curl_easy_init();

	transfer->easy = easy;
	if (easy == NULL || !set_policy(easy, transfer, request) || !set_tls(easy, request) ||
		!set_callbacks(easy, transfer) || !set_body(easy, transfer, request) || !set_headers(easy, transfer, request))
		return false;
	transfer->in_multi = curl_multi_add_handle(engine->multi, easy) == CURLM_OK;
	return transfer->in_multi;
}

static void
refuse_transfer(HttpTransfer *transfer)
{
	transfer->result.error_class = "NOT_ALLOWED";
	transfer->result.message = transfer->message;
	transfer->result.body = empty_body;
	transfer->result.content_type = transfer->content_type;
	transfer->result.rate_rule = transfer->rate_rule;
	set_state(transfer, TRANSFER_FINISHED);
}

HttpTransfer *
http_submit(HttpEngine *engine, const HttpRequest *request)
{
	HttpTransfer *transfer = new_transfer(engine, request);
	Address		  address;
	sigset_t	  saved;
	bool		  started;

	if (!request_allowed(engine, request->url, &address, transfer->message, sizeof(transfer->message)))
	{
		refuse_transfer(transfer);
		return transfer;
	}
	transfer->https = strcmp(address.scheme, "https") == 0;
	strlcpy(transfer->host, address.host, sizeof(transfer->host));

	block_signals(&saved);
	started = start_transfer(transfer, request);
	unblock_signals(&saved);
	if (started)
		return transfer;
	http_transfer_free(transfer);
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not start an HTTP request")));
}

/* Handles are kept: a new one for each request costs 15 percent. */
static void
keep_handle(HttpEngine *engine, CURL *easy)
{
	curl_easy_reset(easy);
	if (engine->nidle < MAX_IDLE_HANDLES)
		engine->idle[engine->nidle++] = easy;
	else
		curl_easy_cleanup(easy);
}

void
http_transfer_free(HttpTransfer *transfer)
{
	HttpEngine *engine = transfer->engine;
	sigset_t	saved;

	block_signals(&saved);
	if (transfer->in_multi)
		curl_multi_remove_handle(engine->multi, transfer->easy);
	if (transfer->easy != NULL)
		keep_handle(engine, transfer->easy);
	unblock_signals(&saved);

	free_headers(transfer->headers);
	free_zeroed(transfer->request_body, transfer->request_len, transfer->secret);
	free_zeroed(transfer->body, transfer->body_cap, transfer->secret);
	dlist_delete(&transfer->node);
	engine->busy--;
	free(transfer);
}

const HttpResult *
http_result(const HttpTransfer *transfer)
{
	Assert(transfer->state != TRANSFER_ACTIVE);
	return &transfer->result;
}

void *
http_owner(const HttpTransfer *transfer)
{
	return transfer->owner;
}

/* -------------------------------------------------------- how it came out */

static curl_off_t
time_of(CURL *easy, CURLINFO info)
{
	curl_off_t us = 0;

	(void) curl_easy_getinfo(easy, info, &us);
	return us;
}

/* CONNECT_TIME waits for TLS in some versions; a local port exists as soon as TCP is through. */
static bool
is_connected(CURL *easy)
{
	long port = 0;

	(void) curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port);
	return port > 0 || time_of(easy, CURLINFO_CONNECT_TIME_T) > 0;
}

typedef enum HttpPhase
{
	PHASE_RESOLVE,
	PHASE_CONNECT,
	PHASE_TLS,
	PHASE_FIRST_BYTE,
	PHASE_BODY
} HttpPhase;

/* Before PHASE_FIRST_BYTE nothing of a request was sent. */
static const struct
{
	const char *class;
	const char *words;
	const int  *limit_ms; /* NULL, 0: only the whole request has a limit */
} phases[] = {
	[PHASE_RESOLVE] = {"RESOLVE", "resolving the name", &pgsync_itsm_resolve_timeout},
	[PHASE_CONNECT] = {"CONNECT", "connecting", &pgsync_itsm_connect_timeout},
	[PHASE_TLS] = {"TLS", "agreeing on TLS", &pgsync_itsm_tls_timeout},
	[PHASE_FIRST_BYTE] = {"TIMEOUT", "waiting for the first byte of the answer", &pgsync_itsm_first_byte_timeout},
	[PHASE_BODY] = {"TIMEOUT", "reading the answer", NULL},
};

/* What a transfer is at, and since when, in microseconds after its beginning. */
static HttpPhase
phase_of(HttpTransfer *transfer, int64 *since_us)
{
	CURL *easy = transfer->easy;

	*since_us = time_of(easy, CURLINFO_PRETRANSFER_TIME_T);
	if (transfer->answering)
		return PHASE_BODY;
	if (*since_us > 0)
		return PHASE_FIRST_BYTE;
	*since_us = time_of(easy, CURLINFO_NAMELOOKUP_TIME_T);
	if (*since_us == 0)
		return PHASE_RESOLVE;
	if (!is_connected(easy))
		return PHASE_CONNECT;
	if (!transfer->https)
		return PHASE_FIRST_BYTE;
	*since_us = Max(*since_us, time_of(easy, CURLINFO_CONNECT_TIME_T));
	if (time_of(easy, CURLINFO_APPCONNECT_TIME_T) == 0)
		return PHASE_TLS;
	*since_us = time_of(easy, CURLINFO_APPCONNECT_TIME_T);
	return PHASE_FIRST_BYTE;
}

static const char *
class_of(CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return "RESOLVE";
		case CURLE_COULDNT_CONNECT:
		case CURLE_PROXY:
			return "CONNECT";
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_ENGINE_NOTFOUND:
		case CURLE_SSL_ENGINE_SETFAILED:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_USE_SSL_FAILED:
			return "TLS";
		case CURLE_FILESIZE_EXCEEDED:
			return "TOO_LARGE";
		case CURLE_URL_MALFORMAT:
			return "NOT_ALLOWED";
		default:
			return "BROKEN";
	}
}

static void
describe_failure(HttpTransfer *transfer, CURLcode code)
{
	HttpResult *result = &transfer->result;
	const char *said = transfer->curl_error[0] ? transfer->curl_error : curl_easy_strerror(code);
	char	   *at;

	result->error_class = transfer->too_large ? "TOO_LARGE" : class_of(code);
	if (code == CURLE_OPERATION_TIMEDOUT)
	{
		int64	  since_us;
		HttpPhase phase = phase_of(transfer, &since_us);

		result->error_class = phases[phase].class;
		snprintf(transfer->message, sizeof(transfer->message), "timed out after %.1f s while %s (%s)",
				 (double) result->elapsed_us / 1000000, phases[phase].words, transfer->host);
	}
	else if (strcmp(result->error_class, "TOO_LARGE") == 0)
		snprintf(transfer->message, sizeof(transfer->message),
				 "the answer is larger than pgsync_itsm.max_response_size (%d kB)", (int) (transfer->body_max / 1024));
	else if (transfer->no_memory)
		snprintf(transfer->message, sizeof(transfer->message), "there is no memory for the answer");
	else if (code == CURLE_SEND_FAIL_REWIND)
		snprintf(transfer->message, sizeof(transfer->message),
				 "the connection to %s broke after the request was sent; it is not known what became of it",
				 transfer->host);
	else
		snprintf(transfer->message, sizeof(transfer->message), "%s: %s", transfer->host, said);
	for (at = transfer->message; *at != '\0'; at++)
	{
		if ((unsigned char) *at < ' ' || (unsigned char) *at > '~')
			*at = '?';
	}
}

static void
count_bytes(HttpTransfer *transfer)
{
	HttpResult *result = &transfer->result;
	curl_off_t	up = 0;
	curl_off_t	down = 0;
	long		headers_up = 0;
	long		headers_down = 0;

	(void) curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &headers_up);
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_HEADER_SIZE, &headers_down);
	result->bytes_sent = (int64) up + headers_up;
	result->bytes_received = (int64) down + headers_down;
}

static void
finish_transfer(HttpTransfer *transfer, CURLcode code)
{
	HttpResult *result = &transfer->result;
	long		status = 0;
	long		connections = 0;

	result->elapsed_us = monotonic_us() - transfer->begun_us;
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &connections);
	result->reused = connections == 0;
	count_bytes(transfer);
	result->content_type = transfer->content_type;
	result->rate_rule = transfer->rate_rule;
	result->message = transfer->message;
	result->body = transfer->body ? transfer->body : empty_body;
	if (code == CURLE_OK)
		(void) curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	result->status = (int) status;
	if (status == 0)
		describe_failure(transfer, code == CURLE_OK ? CURLE_GOT_NOTHING : code);
	else
		result->message = NULL;
	set_state(transfer, TRANSFER_FINISHED);
}

/* -------------------------------------------------------------- the drive */

static void
collect_finished(HttpEngine *engine)
{
	CURLMsg *message;
	int		 left;

	while ((message = curl_multi_info_read(engine->multi, &left)) != NULL)
	{
		char	*transfer = NULL;
		CURL	*easy = message->easy_handle;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		finish_transfer((HttpTransfer *) transfer, code);
	}
}

static bool
phase_is_over(HttpTransfer *transfer, int64 now)
{
	int64	  since_us;
	HttpPhase phase = phase_of(transfer, &since_us);
	int		  limit_ms = phases[phase].limit_ms ? *phases[phase].limit_ms : 0;

	return limit_ms > 0 && now - transfer->begun_us - since_us > (int64) limit_ms * 1000;
}

/* Ends the transfers that have been too long at one thing. */
static void
check_phases(HttpEngine *engine)
{
	int64			   now = monotonic_us();
	dlist_mutable_iter iter;

	if (now < engine->phases_us || dlist_is_empty(&engine->active))
		return;
	engine->phases_us = now + phase_interval_us();
	dlist_foreach_modify (iter, &engine->active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (!transfer->in_multi || !phase_is_over(transfer, now))
			continue;
		curl_multi_remove_handle(engine->multi, transfer->easy);
		transfer->in_multi = false;
		finish_transfer(transfer, CURLE_OPERATION_TIMEDOUT);
	}
}

/* One pass over what is readable now; true if there may be more. */
static bool
drive_sockets(HttpEngine *engine, CURLMcode *code)
{
	struct epoll_event events[EVENTS_A_ROUND];
	int				   running;
	int				   n = epoll_wait(engine->mux, events, EVENTS_A_ROUND, 0);
	int				   i;

	for (i = 0; i < n && *code == CURLM_OK; i++)
	{
		int mask = 0;

		if (events[i].events & EPOLLIN)
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			mask |= CURL_CSELECT_ERR;
		*code = curl_multi_socket_action(engine->multi, events[i].data.fd, mask, &running);
	}
	return n == EVENTS_A_ROUND;
}

/* True if libcurl's timer was due. */
static bool
drive_timer(HttpEngine *engine, CURLMcode *code)
{
	int running;

	if (engine->deadline_us < 0 || engine->deadline_us > monotonic_us())
		return false;
	engine->deadline_us = -1;
	*code = curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	return true;
}

void
http_drive(HttpEngine *engine, bool readable)
{
	CURLMcode code = CURLM_OK;
	sigset_t  saved;
	bool	  more = true;
	int		  round;

	block_signals(&saved);
	for (round = 0; more && code == CURLM_OK && round < ROUNDS_A_DRIVE; round++)
	{
		more = readable && drive_sockets(engine, &code);
		if (code == CURLM_OK && drive_timer(engine, &code))
			more = true;
	}
	collect_finished(engine);
	check_phases(engine);
	unblock_signals(&saved);
	if (code != CURLM_OK)
		elog(ERROR, "libcurl failed: %s", curl_multi_strerror(code));
}

HttpTransfer *
http_next_finished(HttpEngine *engine)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&engine->finished))
		return NULL;
	transfer = dlist_head_element(HttpTransfer, node, &engine->finished);
	set_state(transfer, TRANSFER_TAKEN);
	return transfer;
}

/* Waits once; true if the network may have something. */
static bool
wait_for_network(HttpEngine *engine, long timeout_ms)
{
	static uint32 wait_event = 0;
	long		  deadline = http_deadline_ms(engine);
	int			  events;

	if (wait_event == 0)
		wait_event = compat_wait_event("PgsyncItsmRequest");
	if (deadline >= 0)
		timeout_ms = Min(timeout_ms, deadline);
	events = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   engine->mux, timeout_ms, wait_event);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (events & WL_SOCKET_READABLE) != 0;
}

static void
drive_until(HttpEngine *engine, HttpTransfer *transfer, int64 end_us)
{
	bool readable = false;

	for (;;)
	{
		int64 left;

		http_drive(engine, readable);
		left = end_us - monotonic_us();
		if (transfer->state != TRANSFER_ACTIVE || left <= 0)
			return;
		readable = wait_for_network(engine, (long) ((left + 999) / 1000));
	}
}

bool
http_perform(HttpEngine *engine, HttpTransfer *transfer, long timeout_ms)
{
	PG_TRY();
	{
		drive_until(engine, transfer, monotonic_us() + (int64) timeout_ms * 1000);
	}
	PG_CATCH();
	{
		http_transfer_free(transfer);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (transfer->state == TRANSFER_FINISHED)
		set_state(transfer, TRANSFER_TAKEN);
	return transfer->state == TRANSFER_TAKEN;
}
