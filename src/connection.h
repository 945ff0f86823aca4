/*
 * connection.h
 *	  What a worker keeps of a connection while that has work.
 *
 * Settings, credentials with their token, and pace.  All of it comes from
 * pgsync_itsm.connection_info() and the secrets; nothing is kept across
 * processes.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_CONNECTION_H
#define PGSYNC_ITSM_CONNECTION_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/uuid.h"

#include "adapter.h"
#include "oauth.h"
#include "pace.h"
#include "queue.h"

/* What a connection was when a request was made; answers are read with it. */
typedef struct ConnectionSettings
{
	MemoryContext	  context;
	int				  refs; /* its connection, and each transfer */
	char			 *text; /* as the database has it */
	AdapterConnection conn;
} ConnectionSettings;

/* Who we are there: made anew when any part of it changes. */
typedef struct ConnectionCredentials
{
	MemoryContext context;
	char		 *print; /* references and addresses, to see a change */
	OauthState	 *state;
	bool		  renewable; /* a refused token can be replaced */
	int			  number;	 /* of these credentials, in this process */
	int			  token;	 /* of the token */
	bool		  used;		 /* the token has been accepted once */
	int			  refusals;	 /* of tokens that never were, in a row */
} ConnectionCredentials;

/* How many items a request of an API takes at present; run.c's. */
typedef struct ConnectionSize
{
	char api[24];
	int	 max;		/* 0: as many as the adapter allows */
	int	 successes; /* in a row that are wanted before it grows */
} ConnectionSize;

#define CONNECTION_MAX_SIZES 8

typedef struct Connection
{
	dlist_node			  node;
	pg_uuid_t			  id;
	MemoryContext		  context;
	const Adapter		 *adapter;
	char				 *url;
	ConnectionSettings	 *settings;
	ConnectionCredentials credentials;
	Pace				  pace;
	int					  nsizes;
	ConnectionSize		  sizes[CONNECTION_MAX_SIZES];
	bool				  bundled;	  /* the adapter sends applications with their relationships */
	QueueBatch			  batch;	  /* claimed last, while there may be more of it; run_id 0: none; run.c's */
	int64				  claimed_to; /* items up to this one were claimed since the last look, or could not be */
	bool				  front;	  /* in front of what is on the wire, some wait again */
	TimestampTz			  front_at;	  /* looked there */
	int					  nready;
	dlist_head			  ready;	   /* claimed, not sent for want of a slot; run.c's */
	dlist_head			  following;   /* answered, and the next request about the same waits for a slot; run.c's */
	PaceWait			  waits;	   /* why nothing was claimed last, */
	TimestampTz			  waits_until; /* and for how long */
	TimestampTz			  loaded_at;
	bool				  stale;		   /* was paused: load everything again */
	bool				  in_trouble;	   /* and the database says so */
	char				  trouble[64];	   /* error class of what was wrong last */
	char				  saved_state[16]; /* of connection_pace */
	TimestampTz			  saved_until;
	int					  transfers; /* that point here; it stays as long */
	TimestampTz			  used_at;
} Connection;

/* The connections of a process. */
typedef struct Connections
{
	MemoryContext context;
	dlist_head	  list;
	int			  credentials; /* counts what was loaded */
} Connections;

/* Where a connection gets its token, and what for (NULL: not said); palloc'd. */
extern char *connection_token_url(const QueueConnection *info);
extern char *connection_token_scope(const QueueConnection *info);

/* They live in the current context. */
extern void connection_init(Connections *connections);

/*
 * The connection, loaded or brought up to date, ready for use; NULL if there is
 * none of that id.  Whatever is wrong with it (a secret that can't be opened,
 * settings that can't be read) pauses it, and gives NULL.  Needs
 * queue_begin()'s transaction.
 */
extern Connection *connection_get(Connections *connections, const pg_uuid_t *id);

/* Settings as they are now, for one who goes on using them; and back. */
extern ConnectionSettings *connection_hold_settings(Connection *conn);
extern void				   connection_release_settings(ConnectionSettings *settings);

/* One that was loaded a moment ago, as it is; NULL if it has to be loaded. */
extern Connection *connection_recent(Connections *connections, const pg_uuid_t *id);

/* None of them counts as loaded a moment ago: something may have been set since.  Never throws. */
extern void connection_reread(Connections *connections);

/*
 * Nothing more is sent until someone activates it; then all is loaded anew.
 * Needs the transaction, as the next three do.  Texts in the server's encoding.
 */
extern void connection_pause(Connection *conn, const char *error_class, const char *message);

/* It gets nowhere, and that is shown. */
extern void connection_trouble(Connection *conn, const char *error_class, const char *message);

/* Writes down what was learned of its limits and why it waits, if that has changed. */
extern void connection_save_pace(Connection *conn);

/* It works: what was shown is shown no more. */
extern void connection_works(Connection *conn);

/* Forgets those that were paused, or have had nothing to do for long. */
extern void connection_forget(Connections *connections);

#endif /* PGSYNC_ITSM_CONNECTION_H */
