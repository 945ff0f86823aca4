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
	int			  refusals;	 /* 401 in a row */
} ConnectionCredentials;

/* After a refused request: how many items the next ones of this step take. */
typedef struct ConnectionLimit
{
	int64 run_id;
	char  step[64];
	int	  max; /* 0: no limit */
} ConnectionLimit;

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
	ConnectionLimit		  limit;	  /* run.c's */
	bool				  stale;	  /* was paused: load everything again */
	bool				  in_trouble; /* and the database says so */
	int					  transfers;  /* that point here; it stays as long */
	TimestampTz			  used_at;
} Connection;

/* The connections of a process. */
typedef struct Connections
{
	MemoryContext context;
	dlist_head	  list;
	int			  credentials; /* counts what was loaded */
} Connections;

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

/*
 * Nothing more is sent until someone activates it; then all is loaded anew.
 * Needs the transaction, as the next two do.  Texts in the server's encoding.
 */
extern void connection_pause(Connection *conn, const char *error_class, const char *message);

/* It gets nowhere: left alone for a while (-1: exponential), and shown. */
extern void connection_trouble(Connection *conn, const char *error_class, const char *message, long retry_after_s);

/* It works: what was shown is shown no more. */
extern void connection_works(Connection *conn);

/* Forgets those that were paused, or have had nothing to do for long. */
extern void connection_forget(Connections *connections);

#endif /* PGSYNC_ITSM_CONNECTION_H */
