/*
 * oauth.h
 *	  How a connection proves who it is: OAuth tokens, basic, key, certificate.
 *
 * A state knows one connection's credentials and its token.  It sends nothing:
 * its owner asks oauth_needs_token(), sends what oauth_token_request() wrote,
 * and hands the finished transfer to oauth_token_response().
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_OAUTH_H
#define PGSYNC_ITSM_OAUTH_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "http.h"

typedef struct OauthState OauthState;

/* UTF-8, NUL-terminated; copied by oauth_create().  Absent ones are NULL. */
typedef struct OauthConfig
{
	const char *auth_type; /* oauth2, basic, api_key, client_certificate */
	const char *platform;  /* whose words to use */
	const char *grant;	   /* client_credentials or password, for oauth2 */
	const char *token_url; /* absolute, for oauth2 */
	const char *scope;	   /* what the token is to be good for */
	const char *client_id;
	const char *client_secret;
	const char *username;
	const char *password;
	const char *api_key;
	const char *client_cert_file;
	const char *client_key_file;
} OauthConfig;

typedef enum OauthOutcome
{
	OAUTH_GRANTED, /* there is a token now */
	OAUTH_AGAIN,   /* ask for a token once more, at once (a refresh token was stale) */
	OAUTH_LATER,   /* transport, 429, 5xx: back off, then ask again */
	OAUTH_REFUSED  /* credentials or settings over there are wrong: pause the connection */
} OauthOutcome;

/*
 * A state in the current memory context, which zeroes its secrets when it
 * ends; oauth_destroy() does so earlier.  Throws if credentials that the
 * auth_type needs are absent.
 */
extern OauthState *oauth_create(const OauthConfig *config);
extern void		   oauth_destroy(OauthState *state);

/* Can a request be authorised now? */
extern bool oauth_ready(const OauthState *state, TimestampTz now);

/* Must a token be fetched now?  False while one is being fetched. */
extern bool oauth_needs_token(const OauthState *state, TimestampTz now);

/*
 * Fills the request for a token (see http_request_init) and marks it as under
 * way.  The caller submits it and then calls http_request_clear(), which also
 * zeroes the body.
 */
extern void oauth_token_request(OauthState *state, HttpRequest *request);

/*
 * Reads the answer.  Unless granted, *error is a palloc'd text (server
 * encoding) with every reason that can be behind it, and *hint, if not NULL,
 * what repairs it (may stay NULL).
 */
extern OauthOutcome oauth_token_response(OauthState *state, const HttpResult *result, char **error, char **hint);

/* What the last token is good for, as the platform said; NULL: it did not. */
extern const char *oauth_granted_scope(const OauthState *state);

/* The token request was cancelled: another may be made. */
extern void oauth_token_cancelled(OauthState *state);

/* An API answered 401: forget the token (not the credentials). */
extern void oauth_token_refused(OauthState *state);

/* Adds what proves who we are: header or client certificate. */
extern void oauth_authorize(OauthState *state, HttpRequest *request);

#endif /* PGSYNC_ITSM_OAUTH_H */
