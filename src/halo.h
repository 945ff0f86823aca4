/*
 * halo.h
 *	  What the files of the HaloITSM adapter share among themselves.
 *
 * For adapter_halo.c and halo_*.c only; everybody else sees adapter.h.  Texts
 * inside are UTF-8; what leaves in an outcome, a row or a message has been
 * through json_to_server().
 *
 * An id is a number there, and other kinds of records have the same numbers, so
 * that ids are kept with their resource: asset/4101, supplier/7.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_HALO_H
#define PGSYNC_ITSM_HALO_H

#include "postgres.h"
#include "lib/stringinfo.h"

#include "adapter.h"
#include "adapter_answer.h"
#include "json.h"

/* How long a transfer may take, in ms: gateways give up at 60 s (haloitsm-api 5.2). */
#define HALO_TIMEOUT 65000

/* Rows of a page; more are cut to that (haloitsm-api 2.1). */
#define HALO_PAGE 100

/* ---- what comes back, and what it means: halo_outcomes.c ---- */

#define HALO_RULES 58

extern const AdapterRule  halo_rules[HALO_RULES];
extern const AdapterRule *halo_rule(const char *layer, const char *match);

/* ---- what there is: halo_resource.c ---- */

/* A class of ours: a resource there, and what in its rows is what. */
typedef struct HaloResource
{
	const char *class_name; /* as in external_table */
	const char *path;		/* of the resource */
	const char *prefix;		/* of its ids here */
	const char *rows;		/* member that holds the rows of a list; NULL: the list is a bare array */
	const char *name;		/* member that names a row */
	const char *type;		/* name of its asset type among the ids of the connection; NULL: no asset */
	bool		pages;
	bool		searches; /* may be asked for single rows by search= */
} HaloResource;

extern const HaloResource *halo_resource(const char *class_name);
extern const HaloResource *halo_resource_of(const AdapterItem *item);

/* An id of the connection's, as setup or test have found it ("client", "type business_application"); 0: not known. */
extern int64 halo_known_id(const AdapterConnection *conn, const char *name);

/* Our id of a row, and the number in ours; 0: there is none in it. */
extern char *halo_id(const HaloResource *resource, int64 number);
extern int64 halo_number(const char *external_id);

/* The label that a field of our types has there: "field_managed_by_group" is "Managed by group". */
extern char *halo_field_label(const AdapterConnection *conn, const char *class_name, const char *field);
extern int64 halo_field_id(const AdapterConnection *conn, const char *class_name, const char *field);
extern bool	 halo_is_boolean(const char *field);
extern bool	 halo_is_type_field(const HaloResource *resource, const char *field);

/* The value of a field in a row or record there, as it is compared and shown; "" if it has none. */
extern const char *halo_value(const AdapterConnection *conn, const HaloResource *resource, struct json_object *record,
							  const char *field);

/* Do two names mean the same to the platform? */
extern bool halo_same_name(const char *a, const char *b);

/* ---- what an item wants to write: halo_payload.c ---- */

typedef struct HaloField
{
	const char *name;
	const char *value;
} HaloField;

typedef struct HaloPayload
{
	const HaloResource *resource;
	int					nfields;
	HaloField		   *fields;		   /* without control members */
	const char		   *refusal_class; /* not NULL: the item must not be sent */
	const char		   *refusal;
} HaloPayload;

extern void		   halo_payload_open(const AdapterConnection *conn, const AdapterItem *item, HaloPayload *payload);
extern const char *halo_payload_value(const HaloPayload *payload, const char *name);
extern bool		   halo_payload_refused(const HaloPayload *payload, AdapterOutcome *outcome);

/* An array of one object: what a POST takes. */
extern char *halo_payload_body(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload);

/* Compares with the record that came back: JSON of what was not taken, or NULL; adds to the message. */
extern const char *halo_payload_not_taken(const AdapterConnection *conn, const HaloPayload *payload,
										  struct json_object *record, const char **message);

/* ---- what an answer says: halo_answer.c ---- */

typedef struct HaloAnswer
{
	ResponseVerdict		verdict;
	const AdapterRule  *rule;		 /* what the table has for error_class */
	const char		   *error_class; /* NULL if 2xx and readable */
	const char		   *message;
	struct json_object *root; /* NULL if there is no JSON in it */
} HaloAnswer;

extern void halo_answer_open(const AdapterResponse *response, const char *layer, HaloAnswer *answer);
extern void halo_answer_rule(AdapterOutcome *outcome, const char *layer, const char *error_class, const char *message);
extern void halo_answer_unusable(HaloAnswer *answer, const char *message);

/* The text of a 400, whichever shape it has; NULL if there is none.  Never names a database. */
extern const char *halo_answer_text(const AdapterResponse *response, struct json_object *root);

/* Rows of a list, whether it comes in an envelope or bare; NULL if it is none.  total: -1 if it was not told. */
extern struct json_object *halo_answer_rows(const HaloResource *resource, struct json_object *root, int64 *total);

/* ---- lists, page by page: halo_list.c ---- */

/* What a page says of a list of which seen rows were shown before. */
typedef enum HaloPageState
{
	PAGE_MORE,
	PAGE_LAST,
	PAGE_LAST_INCOMPLETE /* more, or fewer, were shown than are counted */
} HaloPageState;

extern HaloPageState halo_page_state(int64 seen, int rows, int64 total);

extern void	 halo_append_encoded(StringInfo url, const char *utf8);
extern char *halo_list_path(const AdapterConnection *conn, const HaloResource *resource, int page, const char *search);
extern void	 halo_request_get(AdapterRequest *request, char *path);
extern void	 halo_request_post(AdapterRequest *request, const char *path, char *body);
extern void	 halo_request_nothing(AdapterRequest *request);

/* Is a record there that an earlier attempt may have made? */
extern void halo_recheck_build(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload,
							   AdapterRequest *request);
extern bool halo_recheck_follow(const AdapterConnection *conn, const AdapterItem *item, AdapterRequest *request,
								const AdapterResponse *response);
extern ResponseVerdict halo_recheck_read(const AdapterConnection *conn, const AdapterItem *item,
										 const AdapterRequest *request, const AdapterResponse *response,
										 AdapterOutcome *outcome, AdapterReport *report);

/* ---- look-ups: halo_lookup.c ---- */

extern void halo_lookup_build(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups,
							  AdapterRequest *request);
extern bool halo_lookup_follow(const AdapterConnection *conn, const AdapterLookup *lookups, AdapterRequest *request,
							   const AdapterResponse *response);
extern ResponseVerdict halo_lookup_read(const AdapterConnection *conn, const AdapterLookup *lookups,
										const AdapterRequest *request, const AdapterResponse *response,
										AdapterLookupResult *result, AdapterReport *report);

/* ---- relations: halo_relation.c ---- */

extern bool halo_is_relation(const char *entity_type);
extern void halo_relation_build(const AdapterConnection *conn, const AdapterItem *items, int nitems,
								AdapterRequest *request);
extern bool halo_relation_follow(const AdapterConnection *conn, const AdapterItem *items, AdapterRequest *request,
								 const AdapterResponse *response);
extern ResponseVerdict halo_relation_read(const AdapterConnection *conn, const AdapterItem *items,
										  const AdapterRequest *request, const AdapterResponse *response,
										  AdapterOutcome *outcomes, AdapterReport *report);

/* ---- the test of a connection and its setup: halo_check.c, halo_setup.c ---- */

typedef struct HaloFacts
{
	int64 client; /* 0: not found */
	int	  trial;  /* of the reading steps: which one is next */
	void *setup;  /* what the setup has found so far */
} HaloFacts;

#endif /* PGSYNC_ITSM_HALO_H */
