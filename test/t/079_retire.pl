# What is deleted here: retired there by life cycle or deleted there, as retire_by says; published again when it is back,
# before or after anybody looked; held, and named, where somebody else needs it there or has edited it; too much at once
# waits; absence is no deletion; a deletion is rolled back; and all of that holds for connections that follow no changes.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $sage = 'aaaaaaaa-0001-4000-8000-000000000001';
my $node = new_cluster(name => 'retire', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(roles => 'itil,contract_manager,asset,sn_cmdb_admin', options => [ '--user', 'jane.doe:hers:itil,contract_manager,asset' ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, args => { sync_schedule => "'on_change'" });

# An application goes with all that hangs on it, and comes back as it was.
$node->safe_psql('postgres', q{
CREATE TABLE lost (n integer, tab regclass, kept jsonb);
CREATE FUNCTION lose(app uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	DELETE FROM lost;
	FOR t IN SELECT * FROM (VALUES
		(1, 'applications', 'id = %1$L'), (2, 'deployment_profiles', 'application_id = %1$L'), (3, 'portfolio_assignments', 'application_id = %1$L'),
		(4, 'application_contacts', 'application_id = %1$L'), (5, 'application_integrations', '%1$L IN (source_application_id, target_application_id)'),
		(6, 'deployment_profile_it_services', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)'),
		(7, 'deployment_profile_software_products', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)'),
		(8, 'deployment_profile_contacts', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)')) AS v(n, tab, condition)
	LOOP
		EXECUTE format('INSERT INTO lost SELECT %s, %L, to_jsonb(x) FROM %I AS x WHERE ', t.n, t.tab, t.tab) || format(t.condition, app);
	END LOOP;
	DELETE FROM applications WHERE id = app;
END
$$;
CREATE FUNCTION bring_back() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	l record;
BEGIN
	FOR l IN SELECT * FROM lost ORDER BY n LOOP
		EXECUTE format('INSERT INTO %s SELECT (jsonb_populate_record(NULL::%s, $1)).* ON CONFLICT DO NOTHING', l.tab, l.tab) USING l.kept;
	END LOOP;
END
$$;});

sub lines
{
	return $node->safe_psql('postgres', $_[0]);
}

sub by_hand
{
	my ($method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->request($method, $sim->url . "/api/now/table/$path",
		{ headers => { 'authorization' => 'Basic ' . encode_base64('jane.doe:hers', ''), 'accept' => 'application/json', 'content-type' => 'application/json' },
			content => $body ? encode_json($body) : '' });
	die "$method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content} ? decode_json($answer->{content})->{result} : undef;
}

# The runs that came of something have ended, and nothing waits.
sub settled
{
	my ($what) = @_;
	return ok(poll_query($node, 'postgres',
			"SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
		    AND (SELECT full_plan_after IS NULL FROM integration_connections)"), $what);
}

# What is there, without what the platform keeps for itself: table/sys_id => row.  Contracts are left out: one of the sample is
# held while the records of it disagree, and they do not without the application that is deleted.
sub there
{
	my @tables = qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_ci_service_technical service_offering cmdb_ci_spkg cmdb_rel_ci core_company
	  cmdb_software_product_model cmdb_ci_service_discovered cmdb_ci_service_calculated);
	my %known = map { $_ => 1 } keys %{ $sim->stats->{records} };
	my $dump = $sim->dump(grep { $known{$_} } @tables);
	my %there;
	for my $table (keys %$dump)
	{
		for my $row (@{ $dump->{$table} })
		{
			$there{"$table/$row->{sys_id}"} = { map { $_ => $row->{$_} } grep { !/^sys_/ && !/_discovered$/ && $_ ne 'number' && $row->{$_} ne '' } keys %$row };
		}
	}
	return \%there;
}

sub text
{
	my ($there) = @_;
	return { map { $_ => JSON::PP->new->canonical->encode($there->{$_}) } keys %$there };
}

# Keys of what is in the first and not in the second.
sub without
{
	my ($a, $b) = @_;
	return sort grep { !$b->{$_} } keys %$a;
}

# The record of an application or a profile, by its key here.
sub row_of
{
	my ($there, $id) = @_;
	my @hits = grep { ($_->{correlation_id} // '') eq $id } values %$there;
	is(scalar(@hits), 1, "one record of $id") or return {};
	return $hits[0];
}

sub last_run
{
	return lines('SELECT max(id) FROM integration_runs');
}

# Relationships by the names of what they connect: they say the same whatever ids these have.
sub relationships
{
	my ($there) = @_;
	my %name = map { ((split m{/})[1] => $there->{$_}{name} // $_) } keys %$there;
	return [ sort map { join ' > ', map { $name{$_} // $_ } @{ $there->{$_} }{qw(parent child)} } grep { m{^cmdb_rel_ci/} } keys %$there ];
}

sub stage
{
	my ($row) = @_;
	my ($hit) = grep { $_->{sys_id} eq ($row->{life_cycle_stage} // '') } @{ $sim->dump('life_cycle_stage')->{life_cycle_stage} };
	return $hit ? $hit->{name} : '?';
}

sub unique
{
	my ($when) = @_;
	my $d = $sim->stats->{duplicates};
	is($d->{$_}{count}, 0, "no duplicates $when: $_") or diag(explain($d->{$_})) for qw(correlation_id relations merged);
	return;
}

my $first = publish_and_wait($node, 'postgres', $city);
is($first->{status}, 'done', 'published');
settled('all is sent');
publish_and_wait($node, 'postgres', $city);
my @profiles = split /\n/, lines("SELECT d.id FROM deployment_profiles AS d JOIN integration_sync_map AS m ON m.entity_type = 'deployment_profile' AND m.entity_id = d.id
	WHERE d.application_id = '$sage' ORDER BY 1");
is(scalar(@profiles), 2, 'an application with two profiles that are published');
my $all = there();

# ---- by life cycle ---------------------------------------------------------------------------------

my $was = row_of($all, $sage);
is($was->{operational_status}, '1', 'which is operational');
lines("SELECT lose('$sage')");
settled('deleted here');
my $now = there();
is_deeply([ without($all, $now) ], [], 'nothing is deleted there');
for my $id ($sage, @profiles)
{
	my $row = row_of($now, $id);
	is($row->{operational_status}, '6', "retired there: $row->{name}");
	is(stage($row), 'End of Life', 'by life cycle, too') if $id eq $sage;
}
is_deeply(relationships($now), relationships($all), 'it keeps its relationships');
is(lines("SELECT string_agg(entity_type || ' ' || state, ', ' ORDER BY entity_type) FROM integration_sync_map WHERE state <> 'linked'"),
	'application retired, deployment_profile retired, deployment_profile retired', 'the map knows');
my $writes = $sim->stats->{writes};
my $full = publish_and_wait($node, 'postgres', $city, confirm => 0);
is("$full->{status} " . ($full->{approval_reason} // ''), 'done ', 'a publish of everything needs no approval for that');
is($sim->stats->{writes}, $writes, 'and has nothing to add');
lines('SELECT bring_back()');
settled('back here');
is_deeply(text(there()), text($all), 'all is as it was, of the same records');
unique('after coming back');

# back before anybody looked
lines("ALTER SYSTEM SET pgsync_itsm.debounce = '5s'");
$node->reload;
ok(poll_query($node, 'postgres', "SELECT current_setting('pgsync_itsm.debounce') = '5s'"), 'changes are gathered for a while');
$writes = $sim->stats->{writes};
my $last = last_run();
lines("SELECT lose('$sage')");
lines('SELECT bring_back()');
is(lines('SELECT count(*) > 0 FROM integration_queue'), 't', 'deleted and back before anybody looked');
lines('ALTER SYSTEM RESET pgsync_itsm.debounce');
$node->reload;
settled('collected');
is(lines("SELECT count(*) > 0 FROM integration_runs WHERE id > $last AND status = 'done'"), 't', 'and planned');
is($sim->stats->{writes}, $writes, 'which writes nothing');
is_deeply(text(there()), text($all), 'all is as it was');

# absence alone, of a table without its trigger
lines("BEGIN; ALTER TABLE applications DISABLE TRIGGER pgsync_itsm_change; ALTER TABLE deployment_profiles DISABLE TRIGGER pgsync_itsm_change;
	SELECT lose('$sage'); ALTER TABLE applications ENABLE ALWAYS TRIGGER pgsync_itsm_change; ALTER TABLE deployment_profiles ENABLE ALWAYS TRIGGER pgsync_itsm_change; COMMIT;");
settled('gone without a trace');
publish_and_wait($node, 'postgres', $city);
is_deeply(text(there()), text($all), 'absence is no deletion');
lines('SELECT bring_back()');
settled('back');
is_deeply(text(there()), text($all), 'and all is as it was');

# ---- by deletion -----------------------------------------------------------------------------------

lines("SELECT itsm_set('$conn', 'retire_by', 'delete')");
settled('from now on by deletion');
$last = last_run();
lines("SELECT lose('$sage')");
settled('deleted here');
$now = there();
my @gone = without($all, $now);
my %gone_ids = map { (split m{/})[1] => 1 } grep { !m{^cmdb_rel_ci/} } @gone;
is_deeply([ sort map { $_->{correlation_id} // '?' } map { $all->{$_} } grep { !m{^cmdb_rel_ci/} } @gone ], [ sort $sage, @profiles ], 'the application and its profiles are deleted there');
my @links = grep { m{^cmdb_rel_ci/} && ($gone_ids{ $all->{$_}{parent} } || $gone_ids{ $all->{$_}{child} }) } sort keys %$all;
cmp_ok(scalar(@links), '>', 5, 'they had relationships');
is_deeply([ grep { m{^cmdb_rel_ci/} } @gone ], \@links, 'these, and no others, are gone');
is_deeply([ without($now, $all) ], [], 'nothing is new');
is_deeply(text({ map { $_ => $now->{$_} } keys %$now }), text({ map { $_ => $all->{$_} } keys %$now }), 'everything else is as it was');
is(lines("SELECT count(*), count(DISTINCT entity_id) FROM integration_sync_log WHERE run_id > $last AND operation = 'delete' AND status = 'success'"),
	scalar(@gone) . '|' . scalar(@gone), 'by one call each');
is(lines("SELECT count(*) FROM integration_sync_map WHERE '$sage' IN (entity_id::text, parent_id::text, child_id::text)"), '0', 'the map has forgotten it');
my $deletion = lines("SELECT id FROM integration_runs WHERE id > $last AND to_delete > 0");

# undone
lines("SELECT count(*) FROM itsm_rollback($deletion)");
my $back = wait_for_run($node, 'postgres', last_run());
is($back->{status}, 'planned', 'a rollback of the deletion is planned') or diag($back->{error_message});
like($back->{summary}, qr/^would delete 0, retire 0, restore 0, remove 0 relationships, make \Q${\ scalar @gone}\E again$/, 'which makes all of it again');
lines("SELECT itsm_apply($back->{id})");
is(wait_for_run($node, 'postgres', $back->{id}, states => [qw(done failed cancelled)])->{status}, 'done', 'it ends');
is(lines("SELECT entity_type, label, state, reason FROM integration_run_items WHERE run_id = $back->{id} AND state NOT IN ('done', 'unchanged')"), '', 'all of it went through');
$now = there();
is_deeply(row_of($now, $_), row_of($all, $_), "as it was: $_") for $sage, @profiles;
is_deeply(relationships($now), relationships($all), 'with its relationships');
is(scalar(keys %$now), scalar(keys %$all), 'and no more than that');
unique('after the rollback');
# it comes back here: what was made again is known
lines('SELECT bring_back()');
settled('back here');
is(scalar(keys %{ there() }), scalar(keys %$all), 'nothing is made twice');
unique('after the rollback, when it is back here');

# deleted, sent, and back afterwards
lines("SELECT lose('$sage')");
settled('deleted once more');
is(scalar(grep { ($_->{correlation_id} // '') eq $sage } values %{ there() }), 0, 'it is gone there');
lines('SELECT bring_back()');
settled('inserted again');
$now = there();
is_deeply(row_of($now, $sage), row_of($all, $sage), 'published again, as it was');
is_deeply(relationships($now), relationships($all), 'with its relationships');
unique('after being published again');
is(lines("SELECT DISTINCT state FROM itsm_rollback($deletion)"), 'skipped', 'and the deletion has nothing left to undo');

# ---- what others made of it ----------------------------------------------------------------------

my ($app_there) = lines("SELECT external_id FROM integration_sync_map WHERE entity_id = '$sage'");
my ($table, $profile_there, $profile_name) = split /\|/, lines("SELECT external_table, external_id, published_name FROM integration_sync_map WHERE entity_id = '$profiles[0]'");
my $type = $sim->dump('cmdb_rel_type')->{cmdb_rel_type}[0]{sys_id};
my $link = by_hand('POST', 'cmdb_rel_ci', { parent => 'dddd0000000000000000000000000001', child => $profile_there, type => $type });
by_hand('PATCH', "cmdb_ci_business_app/$app_there", { short_description => 'Hers' });
my $hers = there();
$last = last_run();
lines("SELECT lose('$sage')");
settled('deleted here');
is(lines("SELECT DISTINCT entity_type, label, state, reason FROM integration_run_items WHERE run_id > $last AND action = 'DELETE' AND state = 'held' ORDER BY entity_type"),
	"application|Sage 300|held|changed there since: short_description (by jane.doe)\n"
	  . "deployment_profile|$profile_name|held|\"Weather Station Feed\" relates to it there and is not ours (cmdb_rel_ci $link->{sys_id})", 'what others need or edited is held, and named');
is(lines("SELECT held >= 2 FROM integration_runs WHERE id > $last AND to_delete > 0"), 't', 'and counted');
$now = there();
is_deeply([ map { $hers->{$_}{correlation_id} } grep { !m{^cmdb_rel_ci/} } without($hers, $now) ], [ $profiles[1] ], 'the other profile is deleted');
ok($now->{"cmdb_rel_ci/$link->{sys_id}"}, 'her relationship is there');
my @kept = grep { m{^cmdb_rel_ci/} && grep({ $_ eq $profile_there || $_ eq $app_there } @{ $hers->{$_} }{qw(parent child)}) } without($hers, $now);
my ($other) = map { (split m{/})[1] } grep { ($hers->{$_}{correlation_id} // '') eq $profiles[1] } keys %$hers;
is_deeply([ grep { $hers->{$_}{parent} ne $other && $hers->{$_}{child} ne $other } @kept ], [], 'what is held keeps its relationships');
# she lets it go: the next publish sees to it
by_hand('DELETE', "cmdb_rel_ci/$link->{sys_id}");
publish_and_wait($node, 'postgres', $city);
$now = there();
ok(!$now->{"$table/$profile_there"}, 'what nobody needs any more goes with the next publish');
is($now->{"cmdb_ci_business_app/$app_there"}{short_description}, 'Hers', 'what she edited stays');
# a person decides otherwise: it is retired
lines("SELECT itsm_set('$conn', 'retire_by', 'life_cycle')");
settled('by life cycle again');
publish_and_wait($node, 'postgres', $city);
is(there()->{"cmdb_ci_business_app/$app_there"}{operational_status}, '6', 'and is retired, when a person decides so');
lines('SELECT bring_back()');
settled('back');

# ---- too much at once ------------------------------------------------------------------------------

$writes = $sim->stats->{writes};
$last = last_run();
lines("DELETE FROM applications WHERE id IN (SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' ORDER BY entity_id LIMIT 15)");
ok(poll_query($node, 'postgres', "SELECT count(*) = 1 FROM integration_runs WHERE id > $last AND status = 'needs_approval'"), 'many at once wait for a person');
is($sim->stats->{writes}, $writes, 'and nothing is sent');
my ($waiting, $why) = split /\|/, lines("SELECT id, approval_reason FROM integration_runs WHERE id > $last AND status = 'needs_approval'");
like($why, qr/^\d+ of \d+ published records were deleted here$/, 'it says why');
lines("SELECT itsm_apply($waiting)");
my $done = wait_for_run($node, 'postgres', $waiting, states => [qw(done failed cancelled)]);
is("$done->{status} $done->{dead}", 'done 0', 'approved, it is done');
cmp_ok(lines("SELECT count(*) FROM integration_sync_map WHERE entity_type = 'application' AND state = 'retired'"), '>=', 10, 'they are retired');
# ---- by hand, and daily -----------------------------------------------------------------------------

# Nothing of the portfolio is retired so far that is not back: the rest is of other applications.
sub living
{
	my ($n) = @_;
	return split /\n/, lines("SELECT m.entity_id FROM integration_sync_map AS m JOIN applications AS a ON a.id = m.entity_id
		WHERE m.entity_type = 'application' AND m.state = 'linked' AND m.created_by_us AND m.last_agreed ->> 'operational_status' = '1' ORDER BY 1 LIMIT $n");
}

sub retired
{
	my ($id) = @_;
	return row_of(there(), $id)->{operational_status} eq '6';
}

settled('all is sent');
lines("ALTER SYSTEM SET pgsync_itsm.debounce = '1h'");
$node->reload;
ok(poll_query($node, 'postgres', "SELECT current_setting('pgsync_itsm.debounce') = '1h'"), 'nothing is collected for an hour');
lines("SELECT itsm_schedule('$conn', 'manual')");
my ($one, $two, $three, $four) = living(4);
ok($four, 'there are four applications left');
ok(!retired($one), 'one is operational there');
lines("DELETE FROM applications WHERE id = '$one'");
my $by_hand = publish_and_wait($node, 'postgres', $city);
is($by_hand->{status}, 'done', 'a publish at once');
is(lines("SELECT entity_type, label, reason FROM integration_run_items WHERE run_id = $by_hand->{id} AND state = 'dead' AND payload_hash = 'retired'"), '', 'and all that it retires goes through');
ok(retired($one), 'retires what was deleted just before it');
is(lines('SELECT count(*) > 0 FROM integration_queue'), 't', 'while the change still waits');

# collected: no run is made of it, and the connection may be off meanwhile
for my $schedule (qw(manual daily))
{
	lines("SELECT itsm_schedule('$conn', '$schedule')" . ($schedule eq 'daily' ? ";UPDATE integration_connections SET next_run_at = now() + interval '1 day'" : ''));
	lines("UPDATE integration_connections SET is_active = false") if $schedule eq 'manual';
	my $id = $schedule eq 'manual' ? $two : $three;
	$last = last_run();
	lines("DELETE FROM applications WHERE id = '$id'");
	lines("UPDATE integration_queue SET at = at - interval '2 hours'");
	lines("SELECT pgsync_itsm.wake()");
	ok(poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM integration_queue)"), "$schedule: collected");
	is(last_run(), $last, 'no run is made of it');
	is(lines("SELECT deleted_at IS NOT NULL, state FROM integration_sync_map WHERE entity_type = 'application' AND entity_id = '$id'"), 't|linked', 'it is noted');
	ok(!retired($id), 'and is as it was there');
	lines("UPDATE integration_connections SET is_active = true; SELECT pgsync_itsm.wake()") if $schedule eq 'manual';
	is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');
	ok(retired($id), 'and retired');
}
# deleted and made again under the same key, before the plan
lines("SELECT lose('$four')");
lines('SELECT bring_back()');
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');
ok(!retired($four), 'what is here again is not retired');
unique('in the end');
$sim->stop;
$node->stop;
done_testing();
