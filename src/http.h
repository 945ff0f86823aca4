/*
 * http.h
 *	  HTTP transfers beside a PostgreSQL latch.
 *
 * One engine drives any number of transfers.  All its sockets stand in one
 * epoll descriptor, which the owner of the process's wait set waits for:
 *
 *		engine = http_engine_create();
 *		transfer = http_submit(engine, &request);
 *		loop:
 *			wait for latch, http_mux_fd(engine), at most http_deadline_ms(engine)
 *			http_drive(engine, mux_was_readable);
 *			while ((transfer = http_next_finished(engine)) != NULL)
 *				look at http_result(transfer); http_transfer_free(transfer);
 *
 * http_drive() must be called once a turn, even when the descriptor was not
 * readable, and a transfer can be finished before the first wait.
 * What a remote does is never an ERROR here; it is in the result.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_HTTP_H
#define PGSYNC_ITSM_HTTP_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

typedef struct HttpEngine	HttpEngine;
typedef struct HttpTransfer HttpTransfer;

#define HTTP_MAX_HEADERS 8

/*
 * What to send.  Fill with http_request_init() and http_request_header(), set
 * members as needed.  Nothing is owned but the headers; http_submit() copies
 * all of it, so everything may go after that call.
 */
typedef struct HttpRequest
{
	const char *method;		  /* GET, POST, PUT, PATCH, DELETE */
	const char *url;		  /* absolute */
	const char *content_type; /* of the body; NULL if there is none */
	const char *body;		  /* NULL if none */
	size_t		body_len;
	bool		secret;			  /* body holds a secret: copies are zeroed */
	bool		once;			  /* never send it twice: libcurl must not repeat it by itself */
	bool		freely;			  /* nobody asks whether libcurl repeated it */
	int			timeout_ms;		  /* whole transfer; 0 = pgsync_itsm.request_timeout */
	const char *client_cert_file; /* PEM, NULL if none */
	const char *client_key_file;
	int			nheaders;
	char	   *headers[HTTP_MAX_HEADERS]; /* "Name: value", palloc'd, zeroed by http_request_clear */
	void	   *owner;					   /* comes back from http_owner(); not looked at */
} HttpRequest;

/*
 * What came back.  Strings belong to the transfer.  Text is what the remote
 * sent, in no trusted encoding.
 */
typedef struct HttpResult
{
	int			status;		  /* 0: no answer, see error_class */
	const char *error_class;  /* NULL, or NOT_ALLOWED, RESOLVE, CONNECT, TLS, TIMEOUT, BROKEN, TOO_LARGE */
	const char *message;	  /* plain words for error_class; ASCII */
	const char *content_type; /* "" if none was given */
	const char *body;		  /* NUL-terminated behind body_len bytes; never NULL */
	size_t		body_len;
	long		retry_after_s; /* -1: none */
	bool		rate_headers;  /* any X-RateLimit-* was there */
	int64		rate_limit;	   /* X-RateLimit-Limit, -1: none */
	int64		rate_reset;	   /* X-RateLimit-Reset, UNIX seconds, -1: none */
	const char *rate_rule;	   /* X-RateLimit-Rule, "" if none */
	int64		total_count;   /* X-Total-Count, -1: none */
	int64		bytes_sent;	   /* header and body */
	int64		bytes_received;
	TimestampTz started_at;
	int64		elapsed_us;
	bool		reused;	  /* went over a connection that was open already */
	bool		repeated; /* libcurl sent it again: a kept-alive connection had died under it */
} HttpResult;

/*
 * A new engine; it and all its transfers end with the memory context that is
 * current at the call, or with http_engine_destroy().  The first call in a
 * process initialises libcurl.  Throws on want of memory or descriptors, and
 * in the postmaster.
 */
extern HttpEngine *http_engine_create(void);
extern void		   http_engine_destroy(HttpEngine *engine);

/* The descriptor to wait for; the same for the engine's life. */
extern int http_mux_fd(const HttpEngine *engine);

/* Milliseconds until http_drive() must be called; 0 = now, -1 = no hurry. */
extern long http_deadline_ms(const HttpEngine *engine);

/* How many transfers are under way or finished and not yet taken. */
extern int http_busy(const HttpEngine *engine);

/*
 * Starts a transfer.  An address that is not allowed (any more) comes back as a
 * finished transfer of class NOT_ALLOWED; nothing has been sent then.  Throws
 * only on want of memory.
 */
extern HttpTransfer *http_submit(HttpEngine *engine, const HttpRequest *request);

/* Moves bytes; never waits, never throws for what a remote did. */
extern void http_drive(HttpEngine *engine, bool readable);

/* The next finished transfer, each once, NULL if none.  The caller frees it. */
extern HttpTransfer *http_next_finished(HttpEngine *engine);

/* Only for finished transfers; valid until http_transfer_free(). */
extern const HttpResult *http_result(const HttpTransfer *transfer);
extern void				*http_owner(const HttpTransfer *transfer);

/* Aborts if need be, and frees.  Never waits. */
extern void http_transfer_free(HttpTransfer *transfer);
#define http_cancel(transfer) http_transfer_free(transfer)

/*
 * Submits nothing: waits until this transfer is finished, at most timeout_ms,
 * on latch and network; interruptible.  False when the time is over.  On an
 * interrupt the transfer is freed and the error goes on.
 */
extern bool http_perform(HttpEngine *engine, HttpTransfer *transfer, long timeout_ms);

/*
 * What an adapter allows for a request (0: as usual) in milliseconds, longer or
 * shorter as pgsync_itsm.request_timeout is than its default.
 */
extern int http_request_timeout(int timeout_ms);

extern void http_request_init(HttpRequest *request, const char *method, const char *url);

/* Adds "name: value"; line breaks in the value are refused with an ERROR. */
extern void http_request_header(HttpRequest *request, const char *name, const char *value);

/* Zeroes and frees the headers, zeroes a secret body. */
extern void http_request_clear(HttpRequest *request);

/* Percent-encodes everything but RFC 3986 unreserved characters. */
extern void http_append_escaped(StringInfo buf, const char *text);

/*
 * May this address be contacted?  True if so; else *reason says in plain
 * words, palloc'd, why not and which setting would change that.  Call it when
 * an address is stored and again before each send (http_submit does).
 */
extern bool http_check_url(const char *url, char **reason);

/*
 * Is this text a list for pgsync_itsm.allowed_hosts (wildcards) or
 * allow_insecure_hosts?  NULL, or a static text that says what is wrong.
 */
extern const char *http_check_host_list(const char *list, bool wildcards);

#endif /* PGSYNC_ITSM_HTTP_H */
