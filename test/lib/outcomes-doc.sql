-- Sets :document to doc/outcomes.md, made of the table of outcomes.  Run by test/lib/outcomes-doc, which writes the
-- file, and by the regression test, which compares it.
WITH layers(layer, ord, title) AS (VALUES
    ('transport', 1, 'No answer came'),
    ('platform', 2, 'How the platform is, whatever was asked'),
    ('request', 3, 'A request that carries many items is refused'),
    ('alone', 4, 'Exceptions for a request that carries one item'),
    ('batch', 5, 'Parts of a Batch, and items that an answer forgets'),
    ('record', 6, 'One record through the Table or the CMDB Instance API'),
    ('creation', 7, 'Exceptions for a creation'),
    ('removal', 8, 'Exceptions for a removal'),
    ('ire', 9, 'Identification and Reconciliation, item by item'),
    ('item', 10, 'Not sent, or not believed: classes of pgsync_itsm')),
lines AS (
    SELECT coalesce(l.ord, 99) AS ord, l.layer, l.title, o.n,
           format('| `%s` | %s | %s | %s |', o.match, o.outcome, replace(o.reason, '|', '\|'),
                  CASE WHEN o.hint ~ '^(SELECT|ALTER) .*;$' THEN '`' || o.hint || '`' ELSE coalesce(replace(o.hint, '|', '\|'), '') END) AS line
      FROM pgsync_itsm.adapter_outcomes('servicenow') WITH ORDINALITY AS o(layer, match, outcome, reason, hint, n)
      LEFT JOIN layers AS l ON l.layer = o.layer)
SELECT E'# What becomes of an item: ServiceNow\n\n'
       'Made by `test/lib/outcomes-doc` from `SELECT * FROM itsm_outcomes()`; a test compares the two.\n\n'
       '| outcome | what is done |\n|---|---|\n'
       '| done, unchanged | it is as it should be |\n'
       '| retry | sent again later: 1 s, doubling to 60 s |\n'
       '| retry_after | the same, and fewer requests: nothing was done, the platform is asked too much |\n'
       '| split | sent again in halves, until what is to blame stands alone |\n'
       '| lookup_first | it is not known what became of it: what may be repeated is, what may not is looked for first |\n'
       '| reauthenticate | another token, once, then sent again |\n'
       '| pause_connection | the connection is paused with the reason; nothing is lost |\n'
       '| dead | will not succeed as it is; after repair: `SELECT itsm_requeue(error_class => ''...'');` |\n\n'
       'What a layer lacks falls to the class of its status (`HTTP_4xx`), to the layer behind it (*record* and *request* to '
       '*platform*), and at last to `*`.' ||
       (SELECT string_agg(format(E'\n\n## %s (%s)\n\n| class | outcome | reason | what you can do |\n|---|---|---|---|\n%s', s.title, s.layer, s.rows), '' ORDER BY s.ord)
          FROM (SELECT l.ord, l.layer, l.title, string_agg(l.line, E'\n' ORDER BY l.n) AS rows FROM lines AS l GROUP BY l.ord, l.layer, l.title) AS s) AS document
\gset
