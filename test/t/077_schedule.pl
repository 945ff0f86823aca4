# What a connection does by itself, over HTTP: the daily plan, what waits in a black-out, the reconciliation that sees
# what was edited there, and the refresh that confirms what was not written for long and undoes no edit.  Time is moved
# in the tables, never waited for.

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
my $node = new_cluster(name => 'schedule', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(options => [ '--user', "$jane:itil,asset" ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub told
{
	my ($out, $err) = ('', '');
	$node->psql('postgres', $_[0], stdout => \$out, stderr => \$err);
	return "$out\n$err";
}

# The newest run of this kind of the schedule, when it has ended.
sub scheduled
{
	my ($after, $what, %opt) = @_;
	ok(poll_query($node, 'postgres', "SELECT count(*) > 0 FROM integration_runs WHERE id > $after AND origin = 'schedule'"), "$what: a run starts by itself");
	my $run = sql("SELECT max(id) FROM integration_runs WHERE origin = 'schedule'");
	return wait_for_run($node, 'postgres', $run, %opt);
}

sub last_run { return sql('SELECT max(id) FROM integration_runs') }

# Two days went by.
sub later { return sql("UPDATE integration_connections SET scheduled_at = now() - interval '2 days', look_at = NULL; SELECT pgsync_itsm.wake()") }

# ---- daily ---------------------------------------------------------------------------------------

like(told("SELECT itsm_schedule('$conn', 'daily', daily_at => '00:00, 12:00', time_zone => 'America/Toronto')"), qr/the next run is at \d{4}-/, 'the next run is announced');
is(sql("SELECT (next_run_at AT TIME ZONE 'America/Toronto')::time IN ('00:00', '12:00') FROM integration_connections"), 't', 'for the time of day there');
sql("UPDATE applications SET short_description = 'Changed by day' WHERE id = '$sage'");
my $last = last_run();
$sim->reset_counters;
later();
my $run = scheduled($last, 'daily');
is("$run->{status} $run->{kind} $run->{to_update}", 'done publish 1', 'what changed is sent');
ok(!defined $run->{purpose}, 'nothing else is looked at');
is(sql("SELECT requested_by = owner FROM integration_runs r JOIN integration_connections c ON c.id = r.connection_id WHERE r.id = $run->{id}"), 't', 'in the name of the connection\'s owner');
is(sql("SELECT count(*) FROM integration_runs WHERE id > $last"), '1', 'once, however many days it was');
is(sql("SELECT scheduled_at > now() - interval '13 hours' AND next_run_at > now() FROM integration_connections"), 't', 'and then the next time of day');

# ---- black-out -----------------------------------------------------------------------------------

told("SELECT itsm_schedule('$conn', 'on_change', blackout => '00:00-24:00')");
ok(poll_query($node, 'postgres', 'SELECT blackout_until > now() FROM integration_connections'), 'a black-out holds');
$last = last_run();
$sim->reset_counters;
sql("UPDATE applications SET short_description = 'Changed in a black-out' WHERE id = '$sage'");
ok(poll_query($node, 'postgres', "SELECT count(*) > 0 FROM integration_runs WHERE id > $last AND origin = 'on_change' AND status = 'queued'"), 'a change is gathered');
is(sql("SELECT waiting FROM itsm_stat_progress WHERE run_id > $last"), 'black-out', 'and said to wait');

# by hand all the same; what waits in the queue for its turn waits on
my $hand = publish_and_wait($node, 'postgres', $city);
is("$hand->{status} $hand->{to_update}", 'done 1', 'a run that is started by hand goes on');
is(sql("SELECT count(*) FROM integration_runs WHERE id > $last AND origin = 'on_change' AND status <> 'queued'"), '0', 'the others still wait');
sql("SELECT itsm_set('$conn', 'blackout_stops', 'all')");
ok(poll_query($node, 'postgres', 'SELECT look_at IS NOT NULL AND blackout_until > now() FROM integration_connections'), 'looked at again');
sql("UPDATE applications SET short_description = 'Changed once more' WHERE id = '$sage'");
$sim->reset_counters;
my ($held) = publish_runs($node, 'postgres', $city);
ok(poll_query($node, 'postgres', "SELECT count(*) = 1 FROM itsm_stat_progress WHERE run_id = $held AND waiting = 'black-out'"), 'not if the black-out is for these as well');
is($sim->stats->{requests}, 0, 'nothing was sent');
told("SELECT itsm_schedule('$conn', blackout => '')");
is(wait_for_run($node, 'postgres', $held)->{status}, 'done', 'when it is over, it goes on');
ok(poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running')) AND NOT EXISTS (SELECT FROM integration_queue)"), 'and so do the others');
my ($app) = grep { ($_->{correlation_id} // '') eq $sage } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
is($app->{short_description}, 'Changed once more', 'the platform has the newest state');

# ---- reconciliation ------------------------------------------------------------------------------

$sim->by_hand($jane, PATCH => "cmdb_ci_business_app/$app->{sys_id}", { short_description => 'Edited there' });
my $gone = sql("SELECT external_id FROM integration_sync_map WHERE entity_type = 'deployment_profile' AND created_by_us AND external_table = 'cmdb_ci_service_auto' ORDER BY native_key LIMIT 1");
$sim->by_hand($jane, DELETE => "cmdb_ci_service_auto/$gone");
$last = last_run();
$sim->reset_counters;
sql("SELECT itsm_set('$conn', 'reconcile_at', '00:00,01:00,02:00,03:00,04:00,05:00,06:00,07:00,08:00,09:00,10:00,11:00,12:00,13:00,14:00,15:00,16:00,17:00,18:00,19:00,20:00,21:00,22:00,23:00');
	UPDATE integration_connections SET reconciled_at = now() - interval '8 days', look_at = NULL; SELECT pgsync_itsm.wake()");
$run = scheduled($last, 'reconcile');
is("$run->{status} $run->{purpose}", 'done reconcile', 'a week later what is there is compared');
is(sql("SELECT string_agg(entity_type || ' ' || action || ' ' || reason, E'\\n' ORDER BY entity_type) FROM integration_run_items WHERE run_id = $run->{id} AND action NOT IN ('SKIP') AND state NOT IN ('dead')
		AND NOT EXISTS (SELECT FROM integration_run_items o WHERE o.run_id < $run->{id} AND o.action = integration_run_items.action AND o.entity_id = integration_run_items.entity_id AND o.action = 'MISMATCH')"),
	"application MISMATCH edited there since the last sync, and would be overwritten: short_description (there \"Edited there\")\ndeployment_profile MISMATCH deleted there", 'what was edited and what was deleted there is held and named, and nothing else');
is($sim->stats->{writes}, 0, 'nothing was written');

# ---- refresh -------------------------------------------------------------------------------------

my %old = map { $_->{sys_id} => $_ } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
$last = last_run();
$sim->reset_counters;
sql("UPDATE integration_sync_map SET last_synced_at = now() - interval '46 days' WHERE parent_id IS NULL;
	UPDATE integration_connections SET look_at = NULL; SELECT pgsync_itsm.wake()");
$run = scheduled($last, 'refresh');
is("$run->{status} $run->{purpose}", 'done refresh', 'CIs that were not written for 45 days are confirmed');
is(sql("SELECT count(*) FROM integration_sync_map WHERE created_by_us AND entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package') AND last_synced_at < now() - interval '45 days' AND external_id <> '$gone'"),
	'0', 'all of ours');
my %new = map { $_->{sys_id} => $_ } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
my @ours = split /\n/, sql("SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us");
cmp_ok(scalar @ours, '>', 5, 'there are some');
my %changed;
for my $id (@ours)
{
	$changed{$_}++ for grep { ($old{$id}{$_} // '') ne ($new{$id}{$_} // '') } keys %{ $new{$id} };
}
is(join(' ', grep { !/^sys_/ && $_ ne 'last_discovered' } sort keys %changed), '', 'no value of theirs changed but when they were last seen');
is(scalar(grep { ($new{$_}{last_discovered} // '') lt ($old{$_}{last_discovered} // '') } @ours), 0, 'which the platform keeps');
is($new{ $app->{sys_id} }{short_description}, 'Edited there', 'what was edited there stays');
cmp_ok($sim->stats->{requests}, '<=', 12, 'in few requests') or diag($sim->stats->{requests});
$last = last_run();
sql("UPDATE integration_connections SET look_at = NULL; SELECT pgsync_itsm.wake()");
ok(poll_query($node, 'postgres', 'SELECT look_at > now() FROM integration_connections'), 'looked at again');
is(last_run(), $last, 'nothing is left to confirm');
is(publish_and_wait($node, 'postgres', $city)->{to_update}, 0, 'and to a publish all is as it was');

$sim->stop;
$node->stop;
done_testing();
