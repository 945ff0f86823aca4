# Dumps a published database and restores it into another cluster: connections, mappings, map and log are there, and
# nothing is pushed until itsm_adopt() says that the copy may.  Compares counts on both sides and the simulator's.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $old = new_cluster(name => 'old');
my $sim = start_simulator();
load_platform($sim);
load_getinsync($old, 'postgres');
my $conn = connect_and_activate($old, 'postgres', $sim, namespace => $city);
$old->safe_psql('postgres', "SELECT itsm_set_mapping('$conn', 'application', 'short_description', 'upper(short_description)')");
publish_and_wait($old, 'postgres', $city);

my $new = new_cluster(name => 'new', conf => "log_min_messages = warning\n");
my $dump = $old->basedir . '/dump';
$old->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $old->connstr('postgres') ], 'dumped');
my $key = $old->safe_psql('postgres', 'SHOW pgsync_itsm.key_file');
$new->append_conf('postgresql.conf', "pgsync_itsm.key_file = '$key'\n");
$new->reload;
# roles are the cluster's, not the dump's
$new->safe_psql('postgres', 'CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role');
$new->safe_psql('postgres', 'CREATE DATABASE copy');
$new->command_ok([ 'pg_restore', '--exit-on-error', '-d', $new->connstr('copy'), $dump ], 'restored without an error');
for my $table (qw(integration_connections integration_sync_map integration_sync_log integration_runs integration_run_items
	integration_field_mappings integration_sources integration_watches pgsync_itsm.integration_secrets pgsync_itsm.site))
{
	my $count = "SELECT count(*) FROM $table";
	is($new->safe_psql('copy', $count), $old->safe_psql('postgres', $count), "$table is whole");
}

$sim->reset_counters;
$new->append_conf('postgresql.conf', "pgsync_itsm.databases = 'copy'\n");
$new->reload;
ok(wait_for_worker($new, 'copy'), 'a worker serves the copy');
$new->safe_psql('copy', "UPDATE applications SET short_description = 'changed in the copy' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000001'");
my ($rc, $out, $err) = $new->psql('copy', "SELECT itsm_publish('$city', confirm => true)");
like($err, qr/itsm_adopt/, 'publishing there says what is missing');
my ($run) = $out =~ /(\d+)/;
($rc, $out, $err) = $new->psql('copy', "CALL itsm_wait($run)");
like($err, qr/itsm_adopt/, 'so does waiting');
is($sim->stats->{requests}, 0, 'and not one request was made');
$new->safe_psql('copy', 'SELECT itsm_adopt()');
my $done = wait_for_run($new, 'copy', $run);
is($done->{status}, 'done', 'adopted, it publishes');
is($done->{to_update}, 1, 'what changed');
is($done->{to_create}, 0, 'and makes nothing twice');
$sim->stop;
$old->stop;
$new->stop;
done_testing();
