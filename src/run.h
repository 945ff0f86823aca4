/*
 * run.h
 *	  Claims, requests, answers: the flow of runs over a worker's connections.
 *
 * A cycle of the worker:
 *
 *		run_collect()				what has been answered; no transaction
 *		queue_begin()
 *		run_settle()				what the answers mean for items and connections
 *		run_take_turns(turns)		now and then: who has something to do
 *		run_claim()					what goes out next
 *		queue_commit()
 *		run_send()					builds and submits; no transaction
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_RUN_H
#define PGSYNC_ITSM_RUN_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "http.h"
#include "queue.h"

typedef struct Runner Runner;

/* Lives as long as the current context; the engine is the caller's. */
extern Runner *run_create(HttpEngine *engine);

/*
 * Reads the answers that have come; no remote makes it throw.  True if there
 * is something to settle.
 */
extern bool run_collect(Runner *runner);

/* When that has to be done: 0 = now, -1: there is nothing. */
extern long run_settle_in_ms(const Runner *runner);

/* Somebody woke the worker: what is kept of the connections' settings is old.  Never throws. */
extern void run_reread_connections(Runner *runner);

/* In queue_begin()'s transaction: writes down what run_collect() read. */
extern void run_settle(Runner *runner);

/*
 * In the same transaction: notes which connections have something to do, until
 * it is called again, and lets go of what belongs to runs that are cancelled.
 */
extern void run_take_turns(Runner *runner, const QueueTurn *turns, int nturns);

/*
 * In the same transaction: takes look-ups and items for the connections that
 * have something to do and may be talked to.  What is wrong with one connection
 * pauses it and touches no other.  True if one of them could do more than there
 * was, or had an answer that may lead to more: then it is time to ask for turns.
 */
extern bool run_claim(Runner *runner);

/* After commit: sends what was claimed. */
extern void run_send(Runner *runner);

/* Do items that did not fit into their request wait to be given back? */
extern bool run_has_leftovers(const Runner *runner);

/* Requests on the wire. */
extern int run_in_flight(const Runner *runner);

/* Whether some of what was claimed is sent, about to be, or answered and not settled. */
extern bool run_holds_claims(const Runner *runner);

/* When a pause that held something back is over; DT_NOEND: nothing was. */
extern TimestampTz run_resume_at(const Runner *runner);

#endif /* PGSYNC_ITSM_RUN_H */
