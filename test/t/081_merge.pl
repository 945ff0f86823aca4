# Changed there, changed here, changed on both sides: what becomes of a field by policy, by authority, and by decision; over
# HTTP, with the GetInSync tables.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $sage = 'aaaaaaaa-0001-4000-8000-000000000001';
my $jane = 'jane.doe:hers';
my $node = new_cluster(name => 'merge', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(options => [ '--user', "$jane:itil,asset,admin" ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql("UPDATE applications SET short_description = 'Agreed', description = 'Agreed at length' WHERE id = '$sage'");
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");
my $id = sql("SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND entity_id = '$sage'");

sub there { my ($field) = @_; my ($row) = grep { $_->{sys_id} eq $id } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }; return $row->{$field} }
sub here { return sql("SELECT $_[0] FROM applications WHERE id = '$sage'") }
sub edit_there { $sim->by_hand($jane, PATCH => "cmdb_ci_business_app/$id", {@_}); return }
sub edit_here { my ($column, $value) = @_; sql("UPDATE applications SET $column = '$value', updated_at = now() WHERE id = '$sage'"); return }
# The column that says so is set by a trigger.
sub changed_here { return sql("SET session_replication_role = replica; UPDATE applications SET updated_at = now() $_[0] WHERE id = '$sage'") }
sub conflicts { return sql("SELECT string_agg(field || ': ' || base || ' | ' || ours || ' | ' || theirs, '; ' ORDER BY field) FROM integration_conflicts WHERE state = 'open'") }

sub read_back
{
	my ($name) = @_;
	my ($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
	my $row = wait_for_run($node, 'postgres', $run, seconds => 60);
	is($row->{status}, 'done', "$name: read") or diag($row->{error_message} // '');
	return $row;
}

# A publish, and what it wrote.
sub publish
{
	my ($name) = @_;
	$sim->reset_counters;
	my $row = publish_and_wait($node, 'postgres', $city);
	is($row->{status}, 'done', "$name: published");
	return $row;
}

read_back('at rest');
is(publish('at rest')->{to_update}, 0, 'nothing is to be sent');

# What differs, of fields.
sub drift { return sql("SELECT coalesce(string_agg(concat_ws(' | ', field, kind, base, ours, theirs), '; ' ORDER BY label, field), '') FROM itsm_drift('$city') WHERE kind NOT IN ('foreign', 'missing there')") }
is(drift(), '', 'nothing has drifted: what is here is said as it was sent, references, choices and all');
is(sql("SELECT count(*) FILTER (WHERE kind = 'foreign') || ' ' || count(*) FILTER (WHERE kind = 'missing there') FROM itsm_drift('$city')"), sql("SELECT count(*) FROM integration_external_records AS x WHERE target IN ('cmdb_ci_business_app', 'cmdb_ci_service_auto', 'service_offering', 'cmdb_ci_service_technical') AND NOT EXISTS (SELECT FROM integration_sync_map AS m WHERE m.external_id = x.external_id)") . ' 0', 'what is there and of nobody here is foreign');
edit_here(short_description => 'Drifts here');
is(drift(), 'short_description | changed here | Agreed | Drifts here | Agreed', 'what was changed here has drifted');
edit_here(short_description => 'Agreed');

# ---- only theirs -----------------------------------------------------------------------------------

edit_there(short_description => 'Theirs');
my $run = read_back('theirs');
is(here('short_description'), 'Theirs', 'what was changed there is here');
is(sql("SELECT action || ' ' || state || ' ' || reason FROM integration_run_items WHERE run_id = $run->{id} AND step = 'in'"), 'UPDATE done changed there by jane.doe', 'and the run says so');
is(publish('theirs')->{to_update}, 0, 'it does not go back');
is($sim->stats->{writes}, 0, 'nothing is written there');
read_back('once more');
is(sql("SELECT count(*) FROM integration_inbox WHERE state = 'new'"), '0', 'nothing is left to do');

# a choice goes back to what it was made from
my $installed = there('install_status');
edit_there(operational_status => 6, install_status => 7);
read_back('retired there');
is(here('operational_status'), 'retired', 'a choice is translated back');
edit_there(operational_status => 1, install_status => $installed);
read_back('operational there');
is(here('operational_status'), 'operational', 'and again');
publish('after choices');

# ---- only ours --------------------------------------------------------------------------------------

edit_here(short_description => 'Ours');
read_back('ours');
is(here('short_description'), 'Ours', 'what was changed here stays');
is(publish('ours')->{to_update}, 1, 'and is published');
is(there('short_description'), 'Ours', 'it is there');

# ---- both, by policy ----------------------------------------------------------------------------------

for my $case ([ 'local_wins', 'A here' ], [ 'remote_wins', 'B there' ], [ 'last_write_wins', 'C there' ])
{
	my ($policy, $wins) = @$case;
	my ($letter) = $wins =~ /^(.)/;
	sql("SELECT itsm_set('$conn', 'conflict_policy', '$policy')");
	edit_here(short_description => "$letter here");
	if ($policy eq 'last_write_wins')
	{
		changed_here("- interval '1 hour'");
	}
	edit_there(short_description => "$letter there");
	read_back($policy);
	is(here('short_description'), $wins, "$policy: here");
	publish($policy);
	is(there('short_description'), $wins, "$policy: there");
	is(conflicts(), '', "$policy: no conflict");
}
edit_there(short_description => 'D there');
edit_here(short_description => 'D here');
changed_here("+ interval '1 hour'");
read_back('last_write_wins, ours is later');
publish('last_write_wins, ours is later');
is(there('short_description'), 'D here', 'last_write_wins: the later one, which is ours');

# ---- conflicts, and decisions -------------------------------------------------------------------------

sql("SELECT itsm_set('$conn', 'conflict_policy', NULL)");
for my $case ([ 'ours', undef, 'E here' ], [ 'theirs', undef, 'F there' ], [ 'value', '"G both"', 'G both' ])
{
	my ($side, $value, $wins) = @$case;
	my ($letter) = $wins =~ /^(.)/;
	my $base = here('short_description');
	edit_here(short_description => "$letter here");
	edit_there(short_description => "$letter there");
	$run = read_back("conflict, $side");
	is(conflicts(), "short_description: $base | $letter here | $letter there", "$side: the conflict shows all three");
	is(sql("SELECT theirs_by FROM integration_conflicts WHERE state = 'open'"), 'jane.doe', "$side: and who did it there");
	is(here('short_description'), "$letter here", "$side: nothing is changed here");
	is(drift(), "short_description | both | $base | $letter here | $letter there", "$side: both sides have drifted");
	is(publish("conflict, $side")->{to_update}, 0, "$side: a publish leaves it alone");
	is(there('short_description'), "$letter there", "$side: and there");
	sql(sprintf "SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE state = 'open'), '%s'%s)", $side, defined $value ? ", '$value'" : '');
	ok(poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))"), "$side: decided");
	publish("decided, $side");
	is(here('short_description'), $wins, "$side: here");
	is(there('short_description'), $wins, "$side: there");
	is(conflicts(), '', "$side: none is open");
	read_back("after, $side");
	is(publish("after, $side")->{to_update}, 0, "$side: at rest");
	is(drift(), '', "$side: nothing has drifted");
}

# the sides come to agree by themselves
edit_here(short_description => 'H here');
edit_there(short_description => 'H there');
read_back('a conflict');
edit_here(short_description => 'H there');
edit_there(comments => 'Something else');
read_back('agreed');
is(sql("SELECT resolution FROM integration_conflicts ORDER BY id DESC LIMIT 1"), 'agreed', 'a conflict is over when both sides say the same');

# ---- a side that is remembered ------------------------------------------------------------------------------

publish('before a side is remembered');
edit_here(short_description => 'R here');
edit_there(short_description => 'R there');
read_back('a conflict to be remembered');
sql("SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE state = 'open'), 'theirs', remember => true)");
ok(poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))"), 'decided, and remembered');
is(here('short_description'), 'R there', 'theirs is here');
is(publish('remembered')->{to_update}, 0, 'nothing is sent again for it');
is($sim->stats->{writes}, 0, 'nothing at all');
edit_here(short_description => 'S here');
edit_there(short_description => 'S there');
read_back('remembered');
is(conflicts(), '', 'nobody is asked again');
is(here('short_description'), 'S there', 'theirs holds');
sql("SELECT itsm_drop_mapping('$conn', 'application', 'short_description')");
is(publish('forgotten again')->{to_update}, 0, 'nothing is sent when that is taken back');

# ---- authority of a field --------------------------------------------------------------------------------

sql("SELECT itsm_set_mapping('$conn', 'application', 'short_description', 'left(nullif(short_description, ''''), 1000)', authority => 'theirs')");
publish('authority');
edit_here(short_description => 'I here');
edit_there(short_description => 'I there');
read_back('authority theirs');
is(here('short_description'), 'I there', 'theirs holds where the field is theirs');
sql("SELECT itsm_set_mapping('$conn', 'application', 'short_description', 'left(nullif(short_description, ''''), 1000)', authority => 'ours')");
publish('authority');
edit_there(short_description => 'J there');
read_back('authority ours');
is(here('short_description'), 'I there', 'ours holds where the field is ours');
publish('authority ours');
is(there('short_description'), 'I there', 'and is sent again');

# ---- a preview -----------------------------------------------------------------------------------------------

sql("SELECT itsm_drop_mapping('$conn', 'application', 'short_description')");
publish('before the preview');
edit_there(short_description => 'K there');
my ($preview) = split /\n/, sql("SELECT itsm_preview('$city', 'subscribe')");
is(wait_for_run($node, 'postgres', $preview)->{status}, 'planned', 'a preview is kept');
is(sql("SELECT field || ': ' || old_value || ' > ' || new_value FROM itsm_plan($preview) WHERE step = 'in'"), 'short_description: I there > K there', 'and shows what it would do');
is(here('short_description'), 'I there', 'it has done nothing');
is(sql("SELECT pgsync_itsm.is_newest_full(r) FROM integration_runs AS r WHERE id = $preview"), 'f', 'what was held of namesakes is not looked for in it');
sql("SELECT itsm_apply($preview)");
is(wait_for_run($node, 'postgres', $preview)->{status}, 'done', 'applied');
is(here('short_description'), 'K there', 'it does what it said');
edit_there(short_description => 'L there');
($preview) = split /\n/, sql("SELECT itsm_preview('$city', 'subscribe')");
wait_for_run($node, 'postgres', $preview);
edit_here(short_description => 'L here');
sql("SELECT itsm_apply($preview)");
wait_for_run($node, 'postgres', $preview);
is(sql("SELECT state || ' ' || reason FROM integration_run_items WHERE run_id = $preview AND step = 'in'"), 'refused changed since the plan: short_description', 'what has changed here since is refused');
is(here('short_description'), 'L here', 'and left alone');

# ---- what cannot be written ------------------------------------------------------------------------------------

read_back('what was refused is compared anew');
sql("SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE state = 'open'), 'ours')");
publish('before refusals');
sql("ALTER TABLE applications ADD CONSTRAINT stranger CHECK (short_description NOT LIKE '%there') NOT VALID");
edit_there(short_description => 'M there');
$run = read_back('refused here');
like(sql("SELECT i.state || ' ' || b.state || ' ' || b.reason FROM integration_run_items AS i JOIN integration_inbox AS b USING (external_id) WHERE i.run_id = $run->{id} ORDER BY b.id DESC LIMIT 1"),
	 qr/^dead error .*stranger.*23514/, 'what a constraint refuses is an error of that record');
$run = read_back('refused again');
is($run->{dead}, 1, 'it is tried again, though nothing was changed there since');
sql('ALTER TABLE applications DROP CONSTRAINT stranger');
read_back('allowed');
is(here('short_description'), 'M there', 'and written when it can be');

edit_here(short_description => 'N here');
edit_there(short_description => 'N there');
read_back('a conflict to be decided');
sql("ALTER TABLE applications ADD CONSTRAINT stranger CHECK (short_description NOT LIKE '%there') NOT VALID");
my $decide = "SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE state = 'open'), 'theirs')";
sql($decide);
my $settled = "SELECT NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))";
ok(poll_query($node, 'postgres', $settled), 'the decision was tried');
is(sql("SELECT i.state FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE r.purpose = 'decision' ORDER BY i.id DESC LIMIT 1"), 'dead', 'and could not be written');
like(($node->psql('postgres', "SELECT itsm_requeue((SELECT max(id) FROM integration_runs WHERE purpose = 'decision'))"))[2], qr/is to be decided anew/, 'a decision is not queued again');
isnt(conflicts(), '', 'the conflict is open again');
publish('after a decision that failed');
is(there('short_description'), 'N there', 'nothing is sent against the decision');
sql('ALTER TABLE applications DROP CONSTRAINT stranger');
sql($decide);
ok(poll_query($node, 'postgres', $settled), 'decided once more');
is(here('short_description'), 'N there', 'theirs is here');
is(conflicts(), '', 'and the conflict is over');

# ---- a text that is longer here than what is sent of it ------------------------------------------------------------

my $long = 'wordy' x 400;
edit_here(short_description => $long);
publish('a long text');
is(length there('short_description'), 1000, 'its beginning is there');
edit_there(short_description => 'P there');
$run = read_back('changed there');
is(sql("SELECT state || ' ' || reason FROM integration_run_items WHERE step = 'in' AND run_id = $run->{id}"), 'held to be decided: short_description (more is here than was sent)',
	'its rest is not given up unasked');
is(here('short_description'), $long, 'it is all here');
sql($decide);
ok(poll_query($node, 'postgres', $settled), 'but given up when somebody says so');
is(here('short_description'), 'P there', 'theirs is here');

# ---- a table that does not say when a row was changed ------------------------------------------------------------

publish('before another writer');
sql("SELECT itsm_set_writer('$conn', 'application', 'public.applications', 'id', '{\"short_description\": \"short_description\"}')");
edit_there(short_description => 'Q there');
read_back('no time of change');
is(here('short_description'), 'Q there', 'it is written nevertheless');
sql("SELECT itsm_set_writer('$conn', 'application', NULL, NULL, NULL)");

# ---- a row that somebody holds -----------------------------------------------------------------------------------

publish('before a row is held');
edit_there(short_description => 'O there');
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT 1 FROM applications WHERE id = '$sage' FOR UPDATE");
my ($waiting) = split /\n/, sql("SELECT itsm_subscribe('$city')");
ok(poll_query($node, 'postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type LIKE 'pgsync%')"), 'a merge waits for a row');
sql("SET lock_timeout = '2s'; SELECT itsm_set('$conn', 'read_every', NULL)");
pass('whoever changes the connection does not');
$holder->query_safe('COMMIT');
$holder->quit;
is(wait_for_run($node, 'postgres', $waiting, seconds => 60)->{status}, 'done', 'the merge goes on');
is(here('short_description'), 'O there', 'and writes');

# ---- gone there -----------------------------------------------------------------------------------------------

$sim->by_hand($jane, DELETE => "cmdb_ci_business_app/$id");
sql("UPDATE integration_watermarks SET swept_at = now() - interval '2 days'");
read_back('gone there');
is(sql("SELECT state FROM integration_sync_map WHERE entity_type = 'application' AND entity_id = '$sage'"), 'gone', 'the map knows that it is gone');
is(sql("SELECT count(*) FROM applications WHERE id = '$sage'"), '1', 'nothing is deleted here');
is(sql("SELECT count(*) FROM itsm_drift('$city') WHERE kind = 'missing there' AND entity_type = 'application' AND entity_id = '$sage'"), '1', 'and it is missing there');

$sim->stop;
$node->stop;
done_testing();
