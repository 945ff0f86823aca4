/*
 * queue.h
 *	  The internal SQL functions, as C sees them.
 *
 * All of them need the transaction that queue_begin() opens, run in whatever
 * context is current and leave it current, and return what they return in it.
 * Texts that come from here are on their way to a platform, so they are UTF-8;
 * texts that are given to it are in the server's encoding, as adapters return
 * them.  An SQL error is thrown.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_QUEUE_H
#define PGSYNC_ITSM_QUEUE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "adapter.h"
#include "pace.h"

/* What pgsync_itsm.turn() says is to be done. */
typedef enum QueueWork
{
	QUEUE_PLAN_HERE, /* a small plan: the worker does it */
	QUEUE_PLAN,		 /* a plan for the planner */
	QUEUE_CANCEL,	 /* this run's plan is to stop */
	QUEUE_LOOKUP,	 /* questions wait */
	QUEUE_WRITE,	 /* items wait */
	QUEUE_SLEEP		 /* nothing before due */
} QueueWork;

typedef struct QueueTurn
{
	QueueWork	what;
	pg_uuid_t	connection_id; /* of LOOKUP and WRITE */
	int64		run_id;		   /* of the plans */
	TimestampTz due;		   /* 0: none; of CANCEL: until then answers are waited for */
} QueueTurn;

/* A row of pgsync_itsm.connection_info(); absent texts are NULL. */
typedef struct QueueConnection
{
	pg_uuid_t	namespace_id;
	const char *platform;
	const char *instance_url;
	const char *auth_type;
	const char *oauth_grant;
	const char *client_id_ref; /* references are in the server's encoding */
	const char *client_secret_ref;
	const char *username_ref;
	const char *password_ref;
	const char *api_key_ref;
	const char *client_cert_file;
	const char *client_key_file;
	int			max_concurrency;
	const char *settings; /* JSON object of strings */
	const char *token_url_path;
} QueueConnection;

/* What to claim next. */
typedef struct QueueBatch
{
	int64 run_id;
	char  step[64];
	char  entity_type[64];
	char  action[16];
	bool  in_doubt;
	int64 claimed_to; /* the last of it that was claimed; 0: nothing yet */
	bool  in_front;	  /* of what is on the wire */
} QueueBatch;

/* How much of it, and what may come along. */
typedef struct QueueClaim
{
	const AdapterLane *lane;
	int64			   run_id;
	bool			   in_doubt;
	bool			   bundled;
	bool			   repeatable;
	int				   max_records;
	int				   max_items;
	int				   lease_seconds;
	int64			   after; /* items behind this one; 0: all */
} QueueClaim;

/* What became of one item, as it is written down. */
typedef struct QueueOutcome
{
	const AdapterItem *item;
	AdapterOutcome	   outcome;
	int				   http_status;	  /* 0: no answer */
	long			   retry_after_s; /* -1: not told */
} QueueOutcome;

/* Requests of a run and step, added up. */
typedef struct QueueCount
{
	int64		run_id; /* 0: of no run in particular */
	const char *step;	/* NULL: of no step */
	int64		requests;
	int64		writes;
	int64		subrequests;
	int64		bytes_sent;
	int64		bytes_received;
	int64		elapsed_us; /* on the wire, added up */
} QueueCount;

typedef enum QueuePlan
{
	QUEUE_PLAN_MORE,  /* again, in another transaction */
	QUEUE_PLAN_WAITS, /* for the answers to questions */
	QUEUE_PLAN_DONE
} QueuePlan;

/*
 * Opens a transaction and, in it, everything the functions below need; text
 * (a constant) is shown in pg_stat_activity.  False, and no transaction, if
 * the extension is not there, or is another one than at the first call.  While
 * the transaction lasts the extension can't be dropped.
 */
extern bool queue_begin(const char *text);
extern void queue_commit(void);

/* After an error: ends the transaction, whatever its state. */
extern void queue_abort(void);

/* Server's statistics get what a row of transactions has counted. */
extern void queue_flush_statistics(void);

extern bool queue_worker_ready(void);
extern void queue_recover(void);

/* leases: those that ran out end; only while nothing is on the wire. */
extern int queue_turn(bool leases, QueueTurn **turns);

/* NULL if there is no such connection. */
extern QueueConnection *queue_connection(const pg_uuid_t *connection_id);
extern void queue_pause_connection(const pg_uuid_t *connection_id, const char *error_class, const char *message);

/* Shows why a connection gets nowhere; both texts NULL: it does again. */
extern void queue_connection_trouble(const pg_uuid_t *connection_id, const char *error_class, const char *message);

/* What a worker knows of a connection's limits; state, reason and until are for people. */
extern void queue_load_pace(const pg_uuid_t *connection_id, Pace *pace);
extern void queue_save_pace(const pg_uuid_t *connection_id, const Pace *pace, const char *state, const char *reason,
							TimestampTz until);

/*
 * bundled: what belongs to an application travels together, after what all of
 * them need.  after: items behind this one; 0: all.  front: also those in front
 * of what is on the wire, while there are others.
 */
extern bool queue_next_batch(const pg_uuid_t *connection_id, bool bundled, int64 after, bool front, QueueBatch *batch);

/* Takes items; *steps are theirs, in the same order. */
extern int queue_claim(const pg_uuid_t *connection_id, const QueueClaim *claim, AdapterItem **items,
					   const char ***steps);
/*
 * Takes the rows of a connection and a run (0: none) for this transaction;
 * false, at once, if somebody else holds one of them.
 */
extern bool queue_is_free(const pg_uuid_t *connection_id, int64 run_id);
extern void queue_settle(const pg_uuid_t *connection_id, int64 run_id, int n, const QueueOutcome *outcomes);

extern int	queue_claim_lookups(const pg_uuid_t *connection_id, int max_lookups, int lease_seconds,
								AdapterLookup **lookups, int64 *run_id);
extern void queue_settle_lookups(const pg_uuid_t *connection_id, int nlookups, const AdapterLookup *lookups,
								 const AdapterLookupResult *result, long retry_after_s);

extern void queue_count_requests(const pg_uuid_t *connection_id, const QueueCount *count);

/* 0 if no run waits for the planner. */
extern int64	 queue_next_plan(void);
extern QueuePlan queue_plan_step(int64 run_id);

extern void queue_fail_run(int64 run_id, const char *sqlstate, const char *message, const char *hint);

#endif /* PGSYNC_ITSM_QUEUE_H */
