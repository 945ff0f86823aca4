/*
 * pace.c
 *	  How fast one connection may be talked to.
 *
 * See pace.h.  Times come from the caller, so that tests can make them up.
 * Facts about the platforms' limits: servicenow-api 8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <limits.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "pace.h"

/* What a remote may make us wait at the most, whatever its header says. */
#define MAX_TOLD_PAUSE_S (2 * 3600)

/* Two answers that name the end of one window may differ by so much. */
#define SAME_WINDOW (2 * USECS_PER_SEC)

#define MS(n) ((TimestampTz) (n) *1000)
#define WINDOW MS(3600 * 1000)

#define OWN_CEILING 0

#define MAX_CAUTION 64

void
pace_init(Pace *pace)
{
	memset(pace, 0, sizeof(*pace));
	pace->nrules = 1;
	pace->rules[OWN_CEILING].limit = -1;
	pace->rules[OWN_CEILING].guessed = true;
	pace->slots = 1;
	pace->caution = 1;
	pace_set_limits(pace, 1, 0, 100, 5, 1000, 60 * 1000);
}

void
pace_set_limits(Pace *pace, int max_in_flight, int64 per_hour, int share, int breaker_failures, int64 delay_ms,
				int64 delay_max_ms)
{
	if (max_in_flight != pace->max_in_flight)
		pace->slots = max_in_flight;
	pace->max_in_flight = Max(max_in_flight, 1);
	pace->rules[OWN_CEILING].limit = per_hour > 0 ? per_hour : -1;
	pace->share = Min(Max(share, 1), 100);
	pace->breaker_failures = Max(breaker_failures, 1);
	pace->delay_ms = Max(delay_ms, 1);
	pace->delay_max_ms = Max(delay_max_ms, pace->delay_ms);
}

int64
pace_backoff_ms(const Pace *pace, int attempts)
{
	int	   doublings = Min(Max(attempts, 1) - 1, 20);
	double base = Min((double) pace->delay_ms * (1 << doublings), (double) pace->delay_max_ms);

	return (int64) Max(base * (0.5 + pg_prng_double(&pg_global_prng_state)), 1);
}

/* ----------------------------------------------------------------
 * Rules
 * ----------------------------------------------------------------
 */

/* Is this still to come?  What is further ahead than any pause was set before the clock went back. */
static bool
is_ahead(TimestampTz at, TimestampTz now)
{
	return at > now && at - now <= MS((int64) (MAX_TOLD_PAUSE_S + 60) * 1000);
}

/* The later of two times, of which the first one may be from before the clock went back. */
static TimestampTz
later(TimestampTz old, TimestampTz new, TimestampTz now)
{
	return is_ahead(old, now) ? Max(old, new) : new;
}

static bool
window_is_open(const PaceRule *rule, TimestampTz now)
{
	return is_ahead(rule->resets_at, now);
}

/* What is left of a window, less what belongs to others; INT64_MAX: there is no limit. */
static int64
left_of(const Pace *pace, const PaceRule *rule, TimestampTz now)
{
	int64 ours = rule->limit;

	if (rule->limit < 0)
		return PG_INT64_MAX;
	if (rule != &pace->rules[OWN_CEILING])
		ours = Max(ours * pace->share / 100, Min(ours, 1));
	if (window_is_open(rule, now))
		return Max(ours - rule->used, 0);
	return Max(ours - rule->flying, 0);
}

static int
rule_of_api(const Pace *pace, const char *api)
{
	for (int i = 0; i < pace->napis; i++)
		if (strcmp(pace->apis[i].name, api) == 0)
			return pace->apis[i].rule;
	return -1;
}

/* The rule that counts what is inside a batch and has the least left; -1: none does. */
static int
rule_inside(const Pace *pace, TimestampTz now)
{
	int tightest = -1;

	for (int i = 1; i < pace->nrules; i++)
		if (pace->rules[i].subs &&
			(tightest < 0 || left_of(pace, &pace->rules[i], now) < left_of(pace, &pace->rules[tightest], now)))
			tightest = i;
	return tightest;
}

/* When a request could go as far as this rule is concerned; 0: now. */
static TimestampTz
rule_opens(const Pace *pace, const PaceRule *rule, int64 wanted, TimestampTz now)
{
	if (left_of(pace, rule, now) >= wanted)
		return 0;
	/* What is on the wire closes a window that is not open yet, too: its answers will tell. */
	return window_is_open(rule, now) ? rule->resets_at : now + MS(1000);
}

/* The rules that a request of this API has to pass: our own, the API's, and a batch's. */
static TimestampTz
rules_open(const Pace *pace, const char *api, TimestampTz now)
{
	int			of_api = rule_of_api(pace, api);
	int			inside = strcmp(api, "batch") == 0 ? rule_inside(pace, now) : -1;
	TimestampTz opens = rule_opens(pace, &pace->rules[OWN_CEILING], 1, now);

	if (of_api >= 0)
		opens = Max(opens, rule_opens(pace, &pace->rules[of_api], 1, now));
	if (inside >= 0)
		opens = Max(opens, rule_opens(pace, &pace->rules[inside], inside == of_api ? 2 : 1, now));
	return opens;
}

static int
find_rule(Pace *pace, const char *name)
{
	PaceRule *rule;

	for (int i = 1; i < pace->nrules; i++)
		if (strncmp(pace->rules[i].name, name, sizeof(pace->rules[i].name) - 1) == 0)
			return i;
	if (pace->nrules == PACE_MAX_RULES)
		return PACE_MAX_RULES - 1; /* more rules than anybody makes: the last one stands for the rest */
	rule = &pace->rules[pace->nrules];
	memset(rule, 0, sizeof(*rule));
	strlcpy(rule->name, name, sizeof(rule->name));
	rule->limit = -1;
	rule->guessed = true;
	return pace->nrules++;
}

static void
name_api(Pace *pace, const char *api, int rule)
{
	for (int i = 0; i < pace->napis; i++)
	{
		if (strcmp(pace->apis[i].name, api) == 0)
		{
			pace->apis[i].rule = rule;
			return;
		}
	}
	if (pace->napis == PACE_MAX_APIS)
		return;
	strlcpy(pace->apis[pace->napis].name, api, sizeof(pace->apis[0].name));
	pace->apis[pace->napis++].rule = rule;
}

/* Counts n requests; the first one of a window opens it. */
static void
count(Pace *pace, int number, int n, TimestampTz now)
{
	PaceRule *rule = &pace->rules[number];

	if (!window_is_open(rule, now))
	{
		rule->resets_at = now + WINDOW;
		rule->guessed = true;
		rule->used = rule->flying;
	}
	rule->used += n;
	rule->flying += n;
	pace->changed = pace->changed || rule->limit >= 0;
}

static void
uncount(PaceRule *rule, int n)
{
	rule->flying = Max(rule->flying - n, 0);
}

/* ----------------------------------------------------------------
 * The rolling window
 * ----------------------------------------------------------------
 */

static TimestampTz
sent_at(const PaceWindow *window, int i)
{
	return window->sent[(window->first + i) % PACE_MAX_WINDOW];
}

/* How many of what was sent have left the window by now. */
static int
window_expired(const PaceWindow *window, TimestampTz now)
{
	int low = 0;
	int high = window->n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (sent_at(window, middle) + window->span <= now)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
window_left(const PaceWindow *window, TimestampTz now)
{
	if (window->limit == 0)
		return INT_MAX;
	return Max(window->limit - (window->n - window_expired(window, now)), 0);
}

/* When there is room again; 0: there is. */
static TimestampTz
window_opens(const PaceWindow *window, TimestampTz now)
{
	if (window_left(window, now) > 0)
		return 0;
	return sent_at(window, window->n - window->limit) + window->span;
}

/* Its line among the rules is for those who look on, and for the next process. */
static void
write_window_down(Pace *pace)
{
	PaceWindow *window = &pace->window;
	PaceRule   *rule = &pace->rules[find_rule(pace, PACE_WINDOW_RULE)];

	rule->limit = window->limit;
	rule->used = window->n;
	rule->resets_at = window->n > 0 ? sent_at(window, window->n - 1) + window->span : 0;
	pace->changed = true;
}

static void
count_in_window(Pace *pace, TimestampTz now)
{
	PaceWindow *window = &pace->window;
	int			expired;

	if (window->limit == 0)
		return;
	/* the clock went back: nobody knows when these were sent, so they were sent now */
	for (int i = window->n - 1; i >= 0 && sent_at(window, i) > now; i--)
		window->sent[(window->first + i) % PACE_MAX_WINDOW] = now;
	expired = window_expired(window, now);
	if (expired == 0 && window->n == PACE_MAX_WINDOW)
		expired = 1;
	window->first = (window->first + expired) % PACE_MAX_WINDOW;
	window->n -= expired;
	window->sent[(window->first + window->n) % PACE_MAX_WINDOW] = now;
	window->n++;
	write_window_down(pace);
}

void
pace_set_window(Pace *pace, int limit, int seconds, TimestampTz now)
{
	PaceWindow *window = &pace->window;
	bool		first = window->span == 0;

	limit = Min(limit, PACE_MAX_WINDOW);
	window->limit = limit > 0 ? Max(limit * pace->share / 100, 1) : 0;
	window->span = (int64) seconds * USECS_PER_SEC;
	if (!first || window->limit == 0)
		return;
	for (int i = 1; i < pace->nrules; i++)
	{
		const PaceRule *rule = &pace->rules[i];

		if (strcmp(rule->name, PACE_WINDOW_RULE) != 0 || !is_ahead(rule->resets_at, now))
			continue;
		for (window->n = 0; window->n < Min(rule->used, PACE_MAX_WINDOW); window->n++)
			window->sent[window->n] = Min(rule->resets_at - window->span, now);
	}
}

/* ----------------------------------------------------------------
 * May a request start?
 * ----------------------------------------------------------------
 */

PaceWait
pace_may_send(const Pace *pace, const char *api, TimestampTz now, TimestampTz *until)
{
	*until = is_ahead(pace->not_before, now) ? pace->not_before : 0;
	if (pace->breaker != PACE_CLOSED)
		return PACE_WAIT_BREAKER;
	if (*until != 0)
		return PACE_WAIT_BACKOFF;
	*until = Max(rules_open(pace, api, now), window_opens(&pace->window, now));
	if (*until != 0)
		return PACE_WAIT_RULE;
	return pace->in_flight < (int) pace->slots ? PACE_GO : PACE_WAIT_SLOT;
}

int
pace_room(const Pace *pace, const char *api, TimestampTz now)
{
	int			of_api = rule_of_api(pace, api);
	int64		room = (int) pace->slots - pace->in_flight;
	TimestampTz until;

	if (pace_may_send(pace, api, now, &until) != PACE_GO)
		return 0;
	room = Min(room, left_of(pace, &pace->rules[OWN_CEILING], now));
	room = Min(room, window_left(&pace->window, now));
	if (of_api >= 0)
		room = Min(room, left_of(pace, &pace->rules[of_api], now));
	return (int) Max(room, 0);
}

int
pace_room_inside(const Pace *pace, const char *api, TimestampTz now)
{
	int	  inside = strcmp(api, "batch") == 0 ? rule_inside(pace, now) : -1;
	int64 room;

	if (inside < 0)
		return INT_MAX;
	room = left_of(pace, &pace->rules[inside], now);
	if (inside == rule_of_api(pace, api))
		room--;
	return (int) Min(Max(room, 0), INT_MAX);
}

void
pace_sent(Pace *pace, const char *api, int subs, TimestampTz now, PaceTicket *ticket)
{
	ticket->started_at = now;
	ticket->rules[0] = rule_of_api(pace, api);
	ticket->rules[1] = subs > 0 ? rule_inside(pace, now) : -1;
	ticket->subs = subs;
	count(pace, OWN_CEILING, 1, now);
	count_in_window(pace, now);
	if (ticket->rules[0] >= 0)
		count(pace, ticket->rules[0], 1, now);
	if (ticket->rules[1] >= 0)
		count(pace, ticket->rules[1], subs, now);
	pace->in_flight++;
}

void
pace_sent_less(Pace *pace, PaceTicket *ticket, int subs)
{
	int less = ticket->subs - subs;

	if (less > 0 && ticket->rules[1] >= 0)
	{
		PaceRule *rule = &pace->rules[ticket->rules[1]];

		rule->used = Max(rule->used - less, 0);
		uncount(rule, less);
	}
	ticket->subs = subs;
}

void
pace_answered(Pace *pace, PaceTicket *ticket)
{
	Assert(pace->in_flight > 0);
	pace->in_flight--;
	uncount(&pace->rules[OWN_CEILING], 1);
	if (ticket->rules[0] >= 0)
		uncount(&pace->rules[ticket->rules[0]], 1);
	if (ticket->rules[1] >= 0)
		uncount(&pace->rules[ticket->rules[1]], ticket->subs);
}

/* ----------------------------------------------------------------
 * What answers say
 * ----------------------------------------------------------------
 */

/* The end of a window as the platform names it.  An end that moves on is another window. */
static void
take_reset(PaceRule *rule, TimestampTz reset, TimestampTz now)
{
	if (reset <= now || reset > now + MS((int64) MAX_TOLD_PAUSE_S * 1000))
		return;
	if (!window_is_open(rule, now) || (!rule->guessed && reset > rule->resets_at + SAME_WINDOW))
		rule->used = rule->flying;
	rule->resets_at = reset;
	rule->guessed = false;
}

void
pace_noticed(Pace *pace, const PaceNotice *notice, const PaceTicket *ticket, TimestampTz now)
{
	int		  number = find_rule(pace, notice->rule);
	PaceRule *rule = &pace->rules[number];
	int		  counted = notice->inside ? notice->counted : 1;

	if (notice->inside)
		rule->subs = true;
	else
		name_api(pace, notice->api, number);
	if (notice->limit >= 0)
		rule->limit = notice->limit;
	if (notice->reset >= 0)
		take_reset(rule, time_t_to_timestamptz(notice->reset), now);
	/* It was not known that this rule would count it. */
	if (ticket->rules[notice->inside ? 1 : 0] != number)
		rule->used += counted;
	if (notice->exhausted)
	{
		TimestampTz again =
			notice->retry_after_s > 0 ? now + MS(Min(notice->retry_after_s, MAX_TOLD_PAUSE_S) * 1000) : 0;

		rule->used = Max(rule->used, rule->limit);
		rule->resets_at = later(later(rule->resets_at, again, now), now + MS(1000), now);
	}
	pace->changed = true;
}

/* A row of answers as long as there are slots makes one slot more. */
void
pace_works(Pace *pace)
{
	int before = (int) pace->slots;

	pace->throttles = 0;
	pace->failures = 0;
	pace->openings = 0;
	pace->slots = Min(pace->slots + 1 / (pace->slots * pace->caution), (double) pace->max_in_flight);
	if ((int) pace->slots == pace->max_in_flight)
		pace->caution = 1;
	if (pace->breaker != PACE_CLOSED || before != (int) pace->slots)
		pace->changed = true;
	pace->breaker = PACE_CLOSED;
	pace->probing = false;
}

static TimestampTz
pause_end(const Pace *pace, TimestampTz now, long retry_after_s, int attempts)
{
	int64 ms =
		retry_after_s >= 0 ? Min(retry_after_s, MAX_TOLD_PAUSE_S) * INT64CONST(1000) : pace_backoff_ms(pace, attempts);

	return now + MS(ms);
}

/* Of several that were sent at the same time and are turned away, only the first one halves. */
void
pace_throttled(Pace *pace, const PaceTicket *ticket, TimestampTz now, long retry_after_s)
{
	if (ticket->started_at >= pace->slowed_at)
	{
		pace->slots = Max((int) (pace->slots / 2), 1);
		pace->caution = Min(pace->caution * 2, MAX_CAUTION);
		pace->slowed_at = now;
		pace->throttles = Min(pace->throttles + 1, 1000);
	}
	pace->not_before = later(pace->not_before, pause_end(pace, now, retry_after_s, pace->throttles), now);
	pace->changed = true;
}

void
pace_failed(Pace *pace, TimestampTz now, long retry_after_s)
{
	if (pace->breaker == PACE_OPEN)
		return; /* sent before it opened */
	pace->failures = Min(pace->failures + 1, 1000);
	if (pace->probing || pace->failures >= pace->breaker_failures)
	{
		pace->openings = Min(pace->openings + 1, 1000);
		pace->breaker = PACE_OPEN;
		pace->probing = false;
		pace->not_before = later(pace->not_before, pause_end(pace, now, retry_after_s, pace->openings), now);
	}
	else if (retry_after_s >= 0)
		pace->not_before = later(pace->not_before, pause_end(pace, now, retry_after_s, 1), now);
	pace->changed = true;
}

bool
pace_probe_due(const Pace *pace, TimestampTz now)
{
	return pace->breaker != PACE_CLOSED && !pace->probing && !is_ahead(pace->not_before, now);
}

void
pace_probe(Pace *pace)
{
	pace->breaker = PACE_HALF_OPEN;
	pace->probing = true;
	pace->changed = true;
}
