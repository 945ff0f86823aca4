/*
 * connection.c
 *	  Connections of a worker: loaded, kept, paused, forgotten.
 *
 * A connection is read again each time it is to be used, and only what has
 * changed is made anew: its token lives on.  Settings are counted, because an
 * answer is read with those its request was made with.
 *
 * Must not: send anything, know runs or items.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "connection.h"
#include "json.h"
#include "pgsync_itsm.h"
#include "queue.h"
#include "secrets.h"

/* Changes of a connection are seen so late at the most, while one answer follows the other. */
#define RECENT_MS 250

/* A connection without work is kept, token and all, for so long. */
#define KEEP_CONNECTION_MS (30 * 60 * 1000)

void
connection_init(Connections *connections)
{
	memset(connections, 0, sizeof(*connections));
	connections->context = CurrentMemoryContext;
	dlist_init(&connections->list);
}

/* ----------------------------------------------------------------
 * ConnectionSettings and credentials
 * ----------------------------------------------------------------
 */

void
connection_release_settings(ConnectionSettings *settings)
{
	if (settings && --settings->refs == 0)
		MemoryContextDelete(settings->context);
}

ConnectionSettings *
connection_hold_settings(Connection *conn)
{
	conn->settings->refs++;
	return conn->settings;
}

/* Throws if the text is no JSON object. */
static ConnectionSettings *
make_settings(MemoryContext parent, const char *text)
{
	MemoryContext		context = AllocSetContextCreate(parent, "pgsync_itsm settings", ALLOCSET_SMALL_SIZES);
	MemoryContext		old = MemoryContextSwitchTo(context);
	ConnectionSettings *settings = palloc0(sizeof(ConnectionSettings));
	const char		   *reason = "it is no object";
	const char		   *value;
	JsonDoc			   *doc;

	settings->context = context;
	settings->refs = 1;
	settings->text = pstrdup(text ? text : "{}");
	doc = json_doc_parse(settings->text, strlen(settings->text), &reason);
	if (doc == NULL || !json_is_object(doc->root))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the settings of the connection cannot be read: %s", reason)));
	settings->conn.settings = doc->root;
	value = adapter_setting(&settings->conn, "source_name");
	settings->conn.source_name = value ? value : "GetInSync";
	value = adapter_setting(&settings->conn, "write_api");
	settings->conn.write_api = value ? value : "ire";
	MemoryContextSwitchTo(old);
	return settings;
}

/* A member of the settings as they came, palloc'd; NULL if it is absent, empty, or they cannot be read. */
static char *
setting_of(const QueueConnection *info, const char *name)
{
	const char *reason;
	JsonDoc	   *doc = info->settings ? json_doc_parse(info->settings, strlen(info->settings), &reason) : NULL;
	const char *text = doc ? json_scalar(doc->root, name) : NULL;
	char	   *copy = text && text[0] ? pstrdup(text) : NULL;

	if (doc)
		json_doc_free(doc);
	return copy;
}

char *
connection_token_scope(const QueueConnection *info)
{
	return setting_of(info, "token_scope");
}

/* Everything that credentials depend on, on one line. */
static char *
print_credentials(const QueueConnection *info)
{
	const char	  *parts[] = {info->instance_url,	  info->auth_type,		 info->oauth_grant,
							  info->token_url_path,	  info->client_id_ref,	 info->client_secret_ref,
							  info->username_ref,	  info->password_ref,	 info->api_key_ref,
							  info->client_cert_file, info->client_key_file, connection_token_scope(info)};
	StringInfoData buf;

	initStringInfo(&buf);
	for (size_t i = 0; i < lengthof(parts); i++)
		appendStringInfo(&buf, "%s\n", parts[i] ? parts[i] : "");
	return buf.data;
}

/* The secrets of a connection, opened, and closed again together. */
typedef struct Secrets
{
	char  *text[5];
	size_t len[5];
} Secrets;

static void
open_secrets(const QueueConnection *info, Secrets *secrets)
{
	const char *refs[] = {info->client_id_ref, info->client_secret_ref, info->username_ref, info->password_ref,
						  info->api_key_ref};

	for (int i = 0; i < 5; i++)
		secrets->text[i] = secrets_open_for(refs[i], &info->namespace_id, &secrets->len[i]);
}

static void
close_secrets(Secrets *secrets)
{
	for (int i = 0; i < 5; i++)
		secrets_close(secrets->text[i], secrets->len[i]);
}

char *
connection_token_url(const QueueConnection *info)
{
	const char *path = info->token_url_path ? info->token_url_path : "";

	if (strncmp(path, "https://", 8) == 0 || strncmp(path, "http://", 7) == 0)
		return pstrdup(path);
	return psprintf("%s%s", info->instance_url, path);
}

/* In the current context; throws if a secret can't be had. */
static OauthState *
make_state(const QueueConnection *info)
{
	Secrets		secrets = {0};
	OauthConfig config = {0};
	OauthState *volatile state = NULL;

	PG_TRY();
	{
		open_secrets(info, &secrets);
		config.auth_type = info->auth_type;
		config.grant = info->oauth_grant;
		config.platform = info->platform;
		config.token_url = connection_token_url(info);
		config.scope = connection_token_scope(info);
		config.client_id = secrets.text[0];
		config.client_secret = secrets.text[1];
		config.username = secrets.text[2];
		config.password = secrets.text[3];
		config.api_key = secrets.text[4];
		config.client_cert_file = info->client_cert_file;
		config.client_key_file = info->client_key_file;
		state = oauth_create(&config);
	}
	PG_FINALLY();
	{
		close_secrets(&secrets);
	}
	PG_END_TRY();
	return state;
}

/* Replaces what there was, if all goes well. */
static void
load_credentials(Connections *connections, Connection *conn, const QueueConnection *info, const char *print)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgsync_itsm credentials", ALLOCSET_SMALL_SIZES);
	MemoryContext		  old = MemoryContextSwitchTo(context);
	ConnectionCredentials made = {0};

	made.context = context;
	made.print = pstrdup(print);
	made.state = make_state(info);
	made.renewable = strcmp(info->auth_type, "oauth2") == 0;
	made.number = ++connections->credentials;
	MemoryContextSwitchTo(old);

	if (conn->credentials.context)
		MemoryContextDelete(conn->credentials.context);
	MemoryContextSetParent(context, conn->context);
	conn->credentials = made;
}

/* ----------------------------------------------------------------
 * Connections
 * ----------------------------------------------------------------
 */

static Connection *
find_connection(Connections *connections, const pg_uuid_t *id)
{
	dlist_iter iter;

	dlist_foreach (iter, &connections->list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);

		if (memcmp(&conn->id, id, sizeof(*id)) == 0)
			return conn;
	}
	return NULL;
}

static Connection *
add_connection(Connections *connections, const pg_uuid_t *id)
{
	MemoryContext context = AllocSetContextCreate(connections->context, "pgsync_itsm connection", ALLOCSET_SMALL_SIZES);
	Connection	 *conn = MemoryContextAllocZero(context, sizeof(Connection));

	conn->context = context;
	conn->id = *id;
	pace_init(&conn->pace);
	queue_load_pace(id, &conn->pace);
	dlist_init(&conn->ready);
	dlist_init(&conn->following);
	dlist_push_tail(&connections->list, &conn->node);
	return conn;
}

static void
drop_connection(Connection *conn)
{
	Assert(conn->transfers == 0);
	dlist_delete(&conn->node);
	connection_release_settings(conn->settings);
	MemoryContextDelete(conn->context);
}

static int64
number_setting(const ConnectionSettings *settings, const char *name, int64 fallback)
{
	const char *value = adapter_setting(&settings->conn, name);

	return value ? atoll(value) : fallback;
}

/* "requests/seconds", as check_setting() lets pass; nothing else is a limit. */
static void
apply_window(Connection *conn, const ConnectionSettings *settings)
{
	const char *value = adapter_setting(&settings->conn, "rate_limit");
	const char *slash = value ? strchr(value, '/') : NULL;

	pace_set_window(&conn->pace, slash ? atoi(value) : 0, slash ? Max(atoi(slash + 1), 1) : 1, GetCurrentTimestamp());
}

static void
apply_settings(Connections *connections, Connection *conn, const QueueConnection *info)
{
	ConnectionSettings *settings = conn->settings;
	AdapterLane			lane;

	if (settings == NULL || strcmp(settings->text, info->settings ? info->settings : "{}") != 0)
	{
		settings = make_settings(CurrentMemoryContext, info->settings);
		MemoryContextSetParent(settings->context, connections->context);
		connection_release_settings(conn->settings);
		conn->settings = settings;
	}
	pace_set_limits(&conn->pace, Max(info->max_concurrency, 1), number_setting(settings, "requests_per_hour", 0),
					(int) number_setting(settings, "max_share", 90),
					(int) number_setting(settings, "breaker_failures", 5), pgsync_itsm_retry_delay,
					pgsync_itsm_retry_delay_max);
	apply_window(conn, settings);
	conn->adapter->lane(&settings->conn, "application", "CREATE", false, &lane);
	conn->bundled = lane.ends_inside;
}

/* Brings a connection up to date; throws what is wrong with it. */
static void
load_connection(Connections *connections, Connection *conn, const QueueConnection *info)
{
	const char *print = print_credentials(info);

	conn->adapter = adapter_for(info->platform);
	if (conn->adapter == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("there is no adapter for the platform \"%s\"", info->platform)));
	if (conn->url == NULL || strcmp(conn->url, info->instance_url) != 0)
		conn->url = MemoryContextStrdup(conn->context, info->instance_url);
	apply_settings(connections, conn, info);
	if (conn->stale || conn->credentials.state == NULL || strcmp(conn->credentials.print, print) != 0)
		load_credentials(connections, conn, info, print);
	conn->stale = false;
}

static char *
print_id(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* Nothing more is sent until someone activates it; then all is loaded anew. */
void
connection_pause(Connection *conn, const char *error_class, const char *message)
{
	if (conn->stale)
		return;
	ereport(LOG, (errmsg("pgsync_itsm pauses a connection: %s", message),
				  errdetail("Connection %s, %s.", print_id(&conn->id), error_class),
				  errhint("When that is repaired: SELECT itsm_activate(connection_id).")));
	queue_pause_connection(&conn->id, error_class, message);
	conn->stale = true;
}

/*
 * A copy of the current error in the given context, the subtransaction in
 * which it happened rolled back.
 */
static ErrorData *
take_error(MemoryContext context, ResourceOwner owner)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * Whatever fails in here (a secret that can't be opened, settings that can't
 * be read) is this connection's trouble only.  Returns NULL if all is well.
 */
static ErrorData *
try_load(Connections *connections, Connection *conn, const QueueConnection *info)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		load_connection(connections, conn, info);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		error = take_error(context, owner);
	}
	PG_END_TRY();
	return error;
}

/* The connection, ready for use; NULL if it isn't there or was paused. */
Connection *
connection_get(Connections *connections, const pg_uuid_t *id)
{
	QueueConnection *info = queue_connection(id);
	Connection		*conn = find_connection(connections, id);
	ErrorData		*error;

	if (info == NULL)
		return NULL;
	if (conn == NULL)
		conn = add_connection(connections, id);
	conn->used_at = conn->loaded_at = GetCurrentTimestamp();
	error = try_load(connections, conn, info);
	if (error == NULL)
		return conn;
	connection_pause(conn, "CONFIGURATION",
					 error->hint ? psprintf("%s (%s)", error->message, error->hint) : error->message);
	return NULL;
}

Connection *
connection_recent(Connections *connections, const pg_uuid_t *id)
{
	Connection *conn = find_connection(connections, id);
	TimestampTz now = GetCurrentTimestamp();

	if (conn == NULL || conn->stale || now < conn->loaded_at ||
		TimestampDifferenceExceeds(conn->loaded_at, now, RECENT_MS))
		return NULL;
	conn->used_at = now;
	return conn;
}

void
connection_reread(Connections *connections)
{
	dlist_iter iter;

	dlist_foreach (iter, &connections->list)
		dlist_container(Connection, node, iter.cur)->loaded_at = 0;
}

/* Forgets connections that have had nothing to do for long, or were paused. */
void
connection_forget(Connections *connections)
{
	TimestampTz		   now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &connections->list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);

		if (conn->transfers == 0 && (conn->stale || TimestampDifferenceExceeds(conn->used_at, now, KEEP_CONNECTION_MS)))
			drop_connection(conn);
	}
}

void
connection_trouble(Connection *conn, const char *error_class, const char *message)
{
	strlcpy(conn->trouble, error_class, sizeof(conn->trouble));
	queue_connection_trouble(&conn->id, error_class, message);
	conn->in_trouble = true;
}

void
connection_works(Connection *conn)
{
	if (conn->in_trouble)
		queue_connection_trouble(&conn->id, NULL, NULL);
	conn->in_trouble = false;
}

/* As in the column state of pgsync_itsm.connection_pace. */
static const char *
state_of(const Connection *conn)
{
	switch (conn->pace.breaker)
	{
		case PACE_OPEN:
			return "open";
		case PACE_HALF_OPEN:
			return "half_open";
		case PACE_CLOSED:
			break;
	}
	if (conn->waits == PACE_WAIT_RULE)
		return "limited";
	return conn->waits == PACE_WAIT_BACKOFF ? "backoff" : "active";
}

void
connection_save_pace(Connection *conn)
{
	const char *state = state_of(conn);
	bool		waits = strcmp(state, "active") != 0;
	TimestampTz until = waits ? conn->waits_until : 0;

	if (!conn->pace.changed && strcmp(conn->saved_state, state) == 0 && conn->saved_until == until)
		return;
	queue_save_pace(&conn->id, &conn->pace, state, waits && conn->trouble[0] ? conn->trouble : NULL, until);
	strlcpy(conn->saved_state, state, sizeof(conn->saved_state));
	conn->saved_until = until;
	conn->pace.changed = false;
}
