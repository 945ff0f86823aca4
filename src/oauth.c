/*
 * oauth.c
 *	  How a connection proves who it is.
 *
 * Holds credentials and tokens in memory of its own, zeroed when it goes.
 * Writes requests and reads answers; sends nothing itself, so that the owner of
 * the HTTP engine stays the only one who waits.  No SPI, no tables.
 *
 * Protocol: OAuth 2.0, RFC 6749, by which HaloITSM goes (haloitsm-api 1.3); ServiceNow's token endpoint deviates from it,
 * see the reference, section 1.1: a refusal never says why, and while a token
 * lives, the same token is handed out again.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json.h"
#include "oauth.h"

#define RENEW_BEFORE_S 60	  /* a token is renewed that long before its end */
#define UNTOLD_LIFETIME_S 600 /* of a token without expires_in */
#define MAX_LIFETIME_S (24 * 3600)
#define TOKEN_TIMEOUT_MS 30000

typedef enum AuthType
{
	AUTH_OAUTH,
	AUTH_BASIC,
	AUTH_API_KEY,
	AUTH_CERTIFICATE
} AuthType;

struct OauthState
{
	AuthType type;
	bool	 password_grant;
	bool	 says_why; /* a refusal is one of RFC 6749 */
	char	*token_url;
	char	*scope;
	char	*granted_scope;
	char	*client_cert_file;
	char	*client_key_file;

	/* secrets, each zeroed by forget_secrets() */
	char *client_id;
	char *client_secret;
	char *username;
	char *password;
	char *api_key;
	char *access_token;
	char *refresh_token;

	TimestampTz			  expires_at; /* of access_token */
	TimestampTz			  renew_at;
	bool				  in_flight;  /* a token request is under way */
	bool				  refreshing; /* ... with the refresh token */
	MemoryContext		  context;
	MemoryContextCallback on_reset;
};

static const char reasons_client[] =
	"client id or client secret wrong; "
	"OAuth application inactive; "
	"the grant client_credentials is off, as it is by default "
	"(system property glide.oauth.inbound.client.credential.grant_type.enabled); "
	"no \"OAuth Application User\" in the OAuth application, or that user is inactive or locked out";
static const char hint_client[] =
	"Set the property glide.oauth.inbound.client.credential.grant_type.enabled = true on the instance (create it if it "
	"is not there), choose an OAuth Application User in the Application Registry entry, and check client id and secret.";
static const char reasons_password[] =
	"client id or client secret wrong; "
	"user name or password wrong; "
	"user inactive, locked out, without interactive sessions, or with multi-factor authentication; "
	"OAuth application inactive";
static const char hint_password[] =
	"Sign in to the instance once as that user, and compare client id and secret with the Application Registry entry.";

/* What the errors of RFC 6749 mean on a platform that gives them. */
static const struct
{
	const char *error;
	const char *words;
	const char *hint;
} refusals[] = {
	{"invalid_client", "client id or secret is wrong, or the API application is of another kind",
	 "It has to be of the kind \"Client ID and Secret (Services)\", with an agent to log in as: Configuration > "
	 "Integrations > API > View Applications."},
	{"invalid_scope", "the API application does not have a scope that was asked for, or there is none of that name",
	 "Tick the scopes in the API application (Permissions), or ask for those it has: SELECT itsm_set(connection_id, "
	 "'token_scope', 'all');"},
	{"unsupported_grant_type", "the API application does not offer this grant", NULL},
	{"unauthorized_client", "the API application may not use this grant", NULL},
	{"invalid_grant", "user name or password is wrong", NULL},
};

/* ------------------------------------------------------------ small helpers */

static void
forget(char **secret)
{
	if (*secret == NULL)
		return;
	explicit_bzero(*secret, strlen(*secret));
	pfree(*secret);
	*secret = NULL;
}

static void
keep(OauthState *state, char **slot, const char *secret)
{
	forget(slot);
	if (secret != NULL && secret[0] != '\0')
		*slot = MemoryContextStrdup(state->context, secret);
}

/* At a context's end its memory is still there, but single chunks must not be freed. */
static void
wipe(void *arg)
{
	OauthState *state = arg;
	char	   *secrets[] = {state->client_id, state->client_secret, state->username,	  state->password,
							 state->api_key,   state->access_token,	 state->refresh_token};
	int			i;

	for (i = 0; i < (int) lengthof(secrets); i++)
	{
		if (secrets[i] != NULL)
			explicit_bzero(secrets[i], strlen(secrets[i]));
	}
}

static AuthType
auth_type(const char *name)
{
	if (strcmp(name, "oauth2") == 0)
		return AUTH_OAUTH;
	if (strcmp(name, "basic") == 0)
		return AUTH_BASIC;
	if (strcmp(name, "api_key") == 0)
		return AUTH_API_KEY;
	if (strcmp(name, "client_certificate") == 0)
		return AUTH_CERTIFICATE;
	elog(ERROR, "unknown kind of authentication \"%s\"", name);
}

/* ------------------------------------------------------------------ the state */

static void
check_complete(const OauthState *state)
{
	const char *missing = NULL;

	if (state->type == AUTH_OAUTH && (state->client_id == NULL || state->client_secret == NULL))
		missing = "client id and client secret";
	else if (state->type == AUTH_OAUTH && state->token_url == NULL)
		missing = "address of the token endpoint";
	else if ((state->type == AUTH_BASIC || state->password_grant) &&
			 (state->username == NULL || state->password == NULL))
		missing = "user name and password";
	else if (state->type == AUTH_API_KEY && state->api_key == NULL)
		missing = "API key";
	else if (state->type == AUTH_CERTIFICATE && state->client_cert_file == NULL)
		missing = "client certificate";
	if (missing != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the connection lacks its %s", missing),
				 errhint("Disconnect, and connect again with the credentials.")));
}

OauthState *
oauth_create(const OauthConfig *config)
{
	OauthState *state = palloc0(sizeof(OauthState));

	state->context = CurrentMemoryContext;
	state->type = auth_type(config->auth_type);
	state->password_grant =
		state->type == AUTH_OAUTH && config->grant != NULL && strcmp(config->grant, "password") == 0;
	state->on_reset.func = wipe;
	state->on_reset.arg = state;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &state->on_reset);

	state->says_why = config->platform != NULL && strcmp(config->platform, "haloitsm") == 0;
	if (config->token_url != NULL)
		state->token_url = pstrdup(config->token_url);
	if (config->scope != NULL)
		state->scope = pstrdup(config->scope);
	if (config->client_cert_file != NULL)
		state->client_cert_file = pstrdup(config->client_cert_file);
	if (config->client_key_file != NULL)
		state->client_key_file = pstrdup(config->client_key_file);
	keep(state, &state->client_id, config->client_id);
	keep(state, &state->client_secret, config->client_secret);
	keep(state, &state->username, config->username);
	keep(state, &state->password, config->password);
	keep(state, &state->api_key, config->api_key);
	check_complete(state);
	return state;
}

/* The callback stays registered, so the struct itself goes with its context. */
void
oauth_destroy(OauthState *state)
{
	forget(&state->client_id);
	forget(&state->client_secret);
	forget(&state->username);
	forget(&state->password);
	forget(&state->api_key);
	forget(&state->access_token);
	forget(&state->refresh_token);
}

bool
oauth_ready(const OauthState *state, TimestampTz now)
{
	return state->type != AUTH_OAUTH || (state->access_token != NULL && now < state->expires_at);
}

bool
oauth_needs_token(const OauthState *state, TimestampTz now)
{
	if (state->type != AUTH_OAUTH || state->in_flight)
		return false;
	return state->access_token == NULL || now >= state->renew_at;
}

void
oauth_token_cancelled(OauthState *state)
{
	state->in_flight = false;
}

void
oauth_token_refused(OauthState *state)
{
	forget(&state->access_token);
}

/* ---------------------------------------------------------- the token request */

/* Large enough from the start: growing would leave a copy of the secret behind. */
static void
make_form(StringInfo form, const char *const *fields, int nfields)
{
	size_t size = 1;
	int	   i;

	for (i = 0; i < nfields; i++)
		size += 3 * strlen(fields[i]) + 1;
	form->data = palloc(size);
	form->maxlen = (int) size;
	resetStringInfo(form);
	for (i = 0; i < nfields; i += 2)
	{
		if (i > 0)
			appendStringInfoChar(form, '&');
		appendStringInfoString(form, fields[i]);
		appendStringInfoChar(form, '=');
		http_append_escaped(form, fields[i + 1]);
	}
}

void
oauth_token_request(OauthState *state, HttpRequest *request)
{
	const char	  *fields[12];
	int			   n = 0;
	StringInfoData form;

	Assert(state->type == AUTH_OAUTH && !state->in_flight);
	state->refreshing = state->refresh_token != NULL;

	fields[n++] = "grant_type";
	fields[n++] = state->refreshing ? "refresh_token" : state->password_grant ? "password" : "client_credentials";
	fields[n++] = "client_id";
	fields[n++] = state->client_id;
	fields[n++] = "client_secret";
	fields[n++] = state->client_secret;
	if (state->refreshing)
	{
		fields[n++] = "refresh_token";
		fields[n++] = state->refresh_token;
	}
	else if (state->password_grant)
	{
		fields[n++] = "username";
		fields[n++] = state->username;
		fields[n++] = "password";
		fields[n++] = state->password;
	}
	if (state->scope != NULL)
	{
		fields[n++] = "scope";
		fields[n++] = state->scope;
	}
	make_form(&form, fields, n);

	http_request_init(request, "POST", state->token_url);
	request->content_type = "application/x-www-form-urlencoded";
	request->body = form.data;
	request->body_len = form.len;
	request->secret = true;
	request->timeout_ms = TOKEN_TIMEOUT_MS;
	request->client_cert_file = state->client_cert_file;
	request->client_key_file = state->client_key_file;
	state->in_flight = true;
}

/* ----------------------------------------------------------- the token answer */

/*
 * A token handed out a second time is used to its end: asking again before that
 * would give the same one once more.
 */
static void
take_token(OauthState *state, const char *token, int64 lifetime_s, TimestampTz since)
{
	bool  same = state->access_token != NULL && strcmp(state->access_token, token) == 0;
	int64 margin_s = same ? 0 : Min(RENEW_BEFORE_S, lifetime_s / 2);

	keep(state, &state->access_token, token);
	state->expires_at = since + lifetime_s * USECS_PER_SEC;
	state->renew_at = since + (lifetime_s - margin_s) * USECS_PER_SEC;
}

static void
keep_scope(OauthState *state, const char *scope)
{
	if (state->granted_scope != NULL)
		pfree(state->granted_scope);
	state->granted_scope = scope ? MemoryContextStrdup(state->context, scope) : NULL;
}

const char *
oauth_granted_scope(const OauthState *state)
{
	return state->granted_scope;
}

static OauthOutcome
read_token(OauthState *state, const HttpResult *result, char **error)
{
	const char *reason;
	JsonDoc	   *doc = json_doc_parse(result->body, result->body_len, &reason);
	const char *token = doc ? json_text(doc->root, "access_token") : NULL;
	const char *refresh = doc ? json_text(doc->root, "refresh_token") : NULL;
	int64		lifetime = doc ? json_int(doc->root, "expires_in", UNTOLD_LIFETIME_S) : 0;

	if (doc == NULL)
		*error = psprintf("the answer to the token request cannot be read: %s", reason);
	else if (token == NULL || token[0] == '\0' || strpbrk(token, "\r\n") != NULL)
		*error = pstrdup("the answer to the token request has no access token in it");
	else
	{
		take_token(state, token, Max(Min(lifetime, MAX_LIFETIME_S), 1), result->started_at);
		keep_scope(state, json_text(doc->root, "scope"));
		if (refresh != NULL)
			keep(state, &state->refresh_token, refresh);
	}
	if (doc != NULL)
	{
		if (token != NULL)
			explicit_bzero(unconstify(char *, token), strlen(token));
		if (refresh != NULL)
			explicit_bzero(unconstify(char *, refresh), strlen(refresh));
		json_doc_free(doc);
	}
	return *error == NULL ? OAUTH_GRANTED : OAUTH_LATER;
}

static bool
may_pass(const HttpResult *result)
{
	return result->status == 0 || result->status == 202 || result->status == 408 || result->status == 429 ||
		   result->status >= 500;
}

/* A refusal in the words of RFC 6749; false if the answer has none. */
static bool
read_refusal(const HttpResult *result, char **error, char **hint)
{
	const char *reason;
	JsonDoc	   *doc = json_doc_parse(result->body, result->body_len, &reason);
	const char *code = doc ? json_text(doc->root, "error") : NULL;

	for (int i = 0; code != NULL && i < (int) lengthof(refusals); i++)
	{
		if (strcmp(refusals[i].error, code) != 0)
			continue;
		*error = psprintf("the token request was refused (HTTP %d, %s): %s", result->status, code, refusals[i].words);
		*hint = refusals[i].hint ? pstrdup(refusals[i].hint) : NULL;
	}
	if (*error == NULL && code != NULL)
		*error = json_to_server(psprintf("the token request was refused (HTTP %d, %s)", result->status,
										 json_excerpt(code, strlen(code), 60)));
	if (doc != NULL)
		json_doc_free(doc);
	return *error != NULL;
}

/* Where a platform says why; a page for people comes from another address, or from no tenant of that name. */
static OauthOutcome
refused_with_words(const HttpResult *result, char **error, char **hint)
{
	if (read_refusal(result, error, hint))
		return OAUTH_REFUSED;
	*error =
		psprintf("the token request was refused (HTTP %d), and the answer is none of a token endpoint", result->status);
	*hint =
		pstrdup("Compare authorisation server and tenant with Configuration > Integrations > API; the address that is "
				"asked is the connection setting token_path.");
	return OAUTH_REFUSED;
}

static OauthOutcome
refused(OauthState *state, const HttpResult *result, char **error, char **hint)
{
	if (state->refreshing)
	{
		forget(&state->refresh_token);
		*error = pstrdup("the refresh token was refused");
		return OAUTH_AGAIN;
	}
	if (state->says_why)
		return refused_with_words(result, error, hint);
	if (result->status == 404)
	{
		*error = pstrdup("there is no token endpoint at this address (HTTP 404)");
		*hint = pstrdup("Check the address of the instance and the connection setting token_path.");
		return OAUTH_REFUSED;
	}
	*error = psprintf("the token request was refused (HTTP %d); the platform does not say why, it can be: %s",
					  result->status, state->password_grant ? reasons_password : reasons_client);
	*hint = pstrdup(state->password_grant ? hint_password : hint_client);
	return OAUTH_REFUSED;
}

OauthOutcome
oauth_token_response(OauthState *state, const HttpResult *result, char **error, char **hint)
{
	char *no_hint;

	if (hint == NULL)
		hint = &no_hint;
	*error = NULL;
	*hint = NULL;
	state->in_flight = false;

	if (result->status == 200)
	{
		if (pg_strncasecmp(result->content_type, "text/html", 9) != 0)
			return read_token(state, result, error);
		*error = pstrdup("a web page came back instead of a token: the instance may be asleep or in maintenance, or "
						 "the address is not that of the instance");
		*hint = pstrdup("Open the address in a browser, and wake the instance if it is a developer instance.");
		return OAUTH_LATER;
	}
	if (result->status == 0 && strcmp(result->error_class, "NOT_ALLOWED") == 0)
	{
		*error = psprintf("the token endpoint may not be contacted: %s", result->message);
		return OAUTH_REFUSED;
	}
	if (!may_pass(result))
		return refused(state, result, error, hint);
	*error = result->status == 0 ? psprintf("the token request failed: %s", result->message)
								 : psprintf("the token request failed (HTTP %d)", result->status);
	return OAUTH_LATER;
}

/* -------------------------------------------------------------- authorization */

static void
add_basic(const OauthState *state, HttpRequest *request)
{
	size_t user_len = strlen(state->username);
	size_t len = user_len + 1 + strlen(state->password);
	char  *plain = palloc(len + 1);
	int	   size = pg_b64_enc_len((int) len);
	char  *value = palloc0(strlen("Basic ") + size + 1);

	memcpy(plain, state->username, user_len);
	plain[user_len] = ':';
	strlcpy(plain + user_len + 1, state->password, len - user_len);
	strlcpy(value, "Basic ", strlen("Basic ") + 1);
	(void) compat_b64_encode(plain, (int) len, value + strlen("Basic "), size);
	http_request_header(request, "Authorization", value);
	explicit_bzero(plain, len);
	explicit_bzero(value, strlen(value));
	pfree(plain);
	pfree(value);
}

static void
add_bearer(const OauthState *state, HttpRequest *request)
{
	size_t size = strlen("Bearer ") + strlen(state->access_token) + 1;
	char  *value = palloc(size);

	strlcpy(value, "Bearer ", size);
	strlcat(value, state->access_token, size);
	http_request_header(request, "Authorization", value);
	explicit_bzero(value, size);
	pfree(value);
}

void
oauth_authorize(OauthState *state, HttpRequest *request)
{
	request->client_cert_file = state->client_cert_file;
	request->client_key_file = state->client_key_file;
	switch (state->type)
	{
		case AUTH_OAUTH:
			if (state->access_token == NULL)
				elog(ERROR, "there is no token to authorize a request with");
			add_bearer(state, request);
			break;
		case AUTH_BASIC:
			add_basic(state, request);
			break;
		case AUTH_API_KEY:
			http_request_header(request, "x-sn-apikey", state->api_key);
			break;
		case AUTH_CERTIFICATE:
			break;
	}
}
