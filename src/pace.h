/*
 * pace.h
 *	  How fast one connection may be talked to.
 *
 * Counting only: no clock of its own, no SPI, no network, no settings of the
 * server.  Pauses of the whole connection live here; retries of single items
 * live in the tables.
 *
 * Four things hold a connection back, each for its own reason:
 *
 *		slots		requests in flight: one more for each row of answers, half of
 *					them when the platform's queue is full (429 without rate
 *					headers, 202); the more often that happens, the longer the
 *					row
 *		rules		requests an hour: windows that the platform announces
 *					(X-RateLimit-*), and our own ceiling
 *		window		requests in any so many seconds, where the platform has such a
 *					limit and announces nothing
 *		breaker		failed requests in a row open it; after a pause one probe
 *					decides whether it closes
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_PACE_H
#define PGSYNC_ITSM_PACE_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define PACE_MAX_RULES 8
#define PACE_MAX_APIS 8
#define PACE_MAX_WINDOW 1000

/* A rule of the platform that counts requests an hour; rule 0 is our own ceiling. */
typedef struct PaceRule
{
	char		name[64];
	int64		limit;	   /* -1: none, or not told */
	int64		used;	   /* by us in this window, what is on the wire included */
	int64		flying;	   /* of these, on the wire */
	TimestampTz resets_at; /* 0: no window is open */
	bool		guessed;   /* ... and nobody has told when it ends */
	bool		subs;	   /* it counts the calls inside a batch, too */
} PaceRule;

/* When the last requests were sent, in the order of time: a ring. */
typedef struct PaceWindow
{
	int			limit; /* 0: there is none */
	int64		span;  /* in microseconds */
	int			first;
	int			n;
	TimestampTz sent[PACE_MAX_WINDOW];
} PaceWindow;

/* Which rule the answers of an API have named. */
typedef struct PaceApi
{
	char name[24];
	int	 rule;
} PaceApi;

typedef enum PaceBreaker
{
	PACE_CLOSED,
	PACE_OPEN,	   /* nothing is sent until not_before */
	PACE_HALF_OPEN /* a probe may be sent, or is on the wire */
} PaceBreaker;

/* Why a request may not start now. */
typedef enum PaceWait
{
	PACE_GO,
	PACE_WAIT_SLOT,	   /* for an answer */
	PACE_WAIT_BACKOFF, /* the platform asked for patience */
	PACE_WAIT_RULE,	   /* a window is used up */
	PACE_WAIT_BREAKER
} PaceWait;

typedef struct Pace
{
	/* limits */
	int	  max_in_flight;
	int	  share;			/* percent of the platform's rules that we use */
	int	  breaker_failures; /* so many in a row open the breaker */
	int64 delay_ms;			/* backoff: first delay, longest delay */
	int64 delay_max_ms;
	/* state */
	int			in_flight;
	double		slots;
	int			caution;   /* successes that one more slot takes, for each there is */
	TimestampTz slowed_at; /* when they last became fewer */
	int			throttles; /* in a row, for the backoff */
	int			failures;  /* in a row, for the breaker */
	int			openings;  /* in a row, for its pause */
	PaceBreaker breaker;
	bool		probing;
	TimestampTz not_before; /* pause of the whole connection; 0: none */
	int			nrules;
	PaceRule	rules[PACE_MAX_RULES];
	PaceWindow	window;
	int			napis;
	PaceApi		apis[PACE_MAX_APIS];
	bool		changed; /* since its owner wrote it down */
} Pace;

/* What a request counted against, until it is answered. */
typedef struct PaceTicket
{
	TimestampTz started_at;
	int			rules[2]; /* of the request, of what is inside it; -1: none */
	int			subs;
} PaceTicket;

extern void pace_init(Pace *pace);

/* After a change of settings; keeps what is in flight.  per_hour 0: no ceiling of our own. */
extern void pace_set_limits(Pace *pace, int max_in_flight, int64 per_hour, int share, int breaker_failures,
							int64 delay_ms, int64 delay_max_ms);

/*
 * At most limit requests (0: no such limit) in any span of so many seconds.  What
 * an earlier process sent is known by the rule PACE_WINDOW_RULE, if one was
 * loaded.
 */
#define PACE_WINDOW_RULE "rate_limit"
extern void pace_set_window(Pace *pace, int limit, int seconds, TimestampTz now);

/* May a request to this API start now?  If not, *until is when time alone may change that (0: it can't). */
extern PaceWait pace_may_send(const Pace *pace, const char *api, TimestampTz now, TimestampTz *until);

/* How many requests may start at once; how many calls a batch may hold (INT_MAX: as many as fit). */
extern int pace_room(const Pace *pace, const char *api, TimestampTz now);
extern int pace_room_inside(const Pace *pace, const char *api, TimestampTz now);

/* A request is about to be sent; subs calls are inside it.  Fills the ticket. */
extern void pace_sent(Pace *pace, const char *api, int subs, TimestampTz now, PaceTicket *ticket);

/* Fewer calls are inside it than was thought. */
extern void pace_sent_less(Pace *pace, PaceTicket *ticket, int subs);

/* It was answered, or given up. */
extern void pace_answered(Pace *pace, PaceTicket *ticket);

/*
 * Rate headers of an answer, before pace_answered(): rule is never NULL;
 * limit and reset (UNIX seconds) are -1 if they were not told.  exhausted: the
 * rule turned the request away, for retry_after_s (-1: not told).  inside: it
 * spoke of counted calls inside a batch.
 */
typedef struct PaceNotice
{
	const char *api;
	const char *rule;
	int64		limit;
	int64		reset;
	bool		exhausted;
	long		retry_after_s;
	bool		inside;
	int			counted;
} PaceNotice;

extern void pace_noticed(Pace *pace, const PaceNotice *notice, const PaceTicket *ticket, TimestampTz now);

/* The platform answered as it should. */
extern void pace_works(Pace *pace);

/* It asked for patience without naming a rule. */
extern void pace_throttled(Pace *pace, const PaceTicket *ticket, TimestampTz now, long retry_after_s);

/* It did not answer, or only that it cannot.  retry_after_s -1: not told. */
extern void pace_failed(Pace *pace, TimestampTz now, long retry_after_s);

/* Is it time for a probe?  pace_probe() says that one is sent. */
extern bool pace_probe_due(const Pace *pace, TimestampTz now);
extern void pace_probe(Pace *pace);

/* Delay before attempt n+1 of anything: doubling, +-50 %, bounded. */
extern int64 pace_backoff_ms(const Pace *pace, int attempts);

#endif /* PGSYNC_ITSM_PACE_H */
