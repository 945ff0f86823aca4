# Breaks nothing; watches what a change in the user's tables makes of itself: exactly what changed reaches the
# platform, nobody has to call anything, what is rolled back is never sent, and a first publish waits for approval.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $sage = 'aaaaaaaa-0001-4000-8000-000000000001';
my $node = new_cluster(name => 'on_change', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator();
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, args => { sync_schedule => "'on_change'" });

$sim->reset_counters;

# the first publish waits, sends nothing, and goes on when it is approved
my $first = publish_and_wait($node, 'postgres', $city, confirm => 0);
is($first->{status}, 'needs_approval', 'the first publish waits');
like($first->{approval_reason}, qr/first publish/, 'and says why');
is($sim->stats->{writes}, 0, 'nothing was written so far');
$node->safe_psql('postgres', "SELECT itsm_apply($first->{id})");
my $applied = wait_for_run($node, 'postgres', $first->{id}, states => [qw(done failed cancelled)]);
is($applied->{status}, 'done', 'approved, it is sent');
ok($sim->stats->{writes} > 0, 'and written');

sub settled
{
	return poll_query($node, 'postgres',
		"SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
		    AND (SELECT full_plan_after IS NULL FROM integration_connections)");
}
ok(settled(), 'everything is sent');
$sim->reset_counters;
my $last = $node->safe_psql('postgres', 'SELECT max(id) FROM integration_runs');

# one description and one link
my $service = $node->safe_psql('postgres',
	"SELECT m.entity_id FROM integration_sync_map m WHERE m.entity_type = 'it_service' AND NOT EXISTS (SELECT FROM deployment_profile_it_services l
	   WHERE l.it_service_id = m.entity_id AND l.deployment_profile_id = 'dddddddd-0001-4000-8000-000000000101') ORDER BY 1 LIMIT 1");
ok($service, 'there is a service to link');
$node->safe_psql('postgres', qq{
	BEGIN;
	UPDATE applications SET short_description = 'Finance, changed by a test' WHERE id = '$sage';
	INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id, relationship_type)
	VALUES ('dddddddd-0001-4000-8000-000000000101', '$service', 'depends_on');
	COMMIT;});
ok(poll_query($node, 'postgres', "SELECT count(*) > 0 FROM integration_runs WHERE id > $last AND status = 'done'"), 'the change makes a run');
ok(settled(), 'which ends');
is($node->safe_psql('postgres',
		"SELECT string_agg(entity_type || ' ' || action || ' ' || state, ', ' ORDER BY ord) FROM integration_run_items WHERE run_id > $last AND state <> 'skipped'"),
	'application UPDATE done, depends_on CREATE done', 'exactly the two items');
my ($app) = grep { ($_->{correlation_id} // '') eq $sage } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
is($app->{short_description}, 'Finance, changed by a test', 'the platform has it');

# the link goes again: the row that we made, and no other
my $rows = @{ $sim->dump('cmdb_rel_ci')->{cmdb_rel_ci} };
$node->safe_psql('postgres', "DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = 'dddddddd-0001-4000-8000-000000000101' AND it_service_id = '$service'");
ok(poll_until(sub { @{ $sim->dump('cmdb_rel_ci')->{cmdb_rel_ci} } == $rows - 1 }), 'an unlinked service loses its row');
ok(settled(), 'and the run ends');
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_log WHERE operation = 'delete'"), '1', 'by one call');

# rolled back: nothing
$sim->reset_counters;
$last = $node->safe_psql('postgres', 'SELECT max(id) FROM integration_runs');
$node->safe_psql('postgres', "BEGIN; UPDATE applications SET short_description = 'never' WHERE id = '$sage'; ROLLBACK;");
$node->safe_psql('postgres', "BEGIN; SAVEPOINT a; UPDATE applications SET short_description = 'never' WHERE id = '$sage'; ROLLBACK TO a; COMMIT;");
# something that is sent afterwards proves that the worker has been there
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'after' WHERE id = '$sage'");
ok(poll_query($node, 'postgres', "SELECT count(*) > 0 FROM integration_runs WHERE id > $last AND status = 'done'"), 'a later change is sent');
ok(settled(), 'and settled');
unlike(join(' ', map { $_->{body} // '' } @{ $sim->get('/__sim/requests?n=10000')->{requests} // [] }), qr/never/,
	'what was rolled back never was');

# another tenant's change concerns nobody here
$sim->reset_counters;
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'elsewhere' WHERE id IN (SELECT a.id FROM applications a JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id <> '$city')");
ok(settled(), 'the change of another tenant is collected');
is($sim->stats->{writes}, 0, 'and not sent');

# two of one name are held by the first publish; a change of one of them does not let it slip through
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'still held' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000002'");
ok(settled(), 'a change of a held application');
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_map WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000002'"), '0', 'it stays held');

# deleted here: retired there, and left there
my $gone = $node->safe_psql('postgres', "SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' AND entity_id <> '$sage' ORDER BY entity_id DESC LIMIT 1");
$node->safe_psql('postgres', "DELETE FROM applications WHERE id = '$gone'");
ok(settled(), 'a deleted application');
my ($retired) = grep { ($_->{correlation_id} // '') eq $gone } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
is($retired->{operational_status}, '6', 'is retired there, not deleted');

# every application at once
$node->safe_psql('postgres', "UPDATE applications SET description = description || '!' WHERE name IS NOT NULL");
ok(settled(), 'a change of every application');
$sim->stop;
$node->stop;
done_testing();
