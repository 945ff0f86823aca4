# Reading back over HTTP: first pull, incremental pulls, deletions, rows that are hidden.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $jane = 'jane.doe:hers';
my $node = new_cluster(name => 'read', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(options => [ '--user', "$jane:itil,asset" ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');

sub sql { return $node->safe_psql('postgres', $_[0]) }

my ($out, $err);
$node->psql('postgres', "SELECT itsm_subscribe('$city')", stdout => \$out, stderr => \$err);
like($err, qr/does not read: its direction is "publish"/, 'a connection that only publishes does not read');
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");

sub read_back
{
	my ($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
	return wait_for_run($node, 'postgres', $run, @_);
}

$sim->reset_counters;
my $run = read_back();
is($run->{status}, 'done', 'read') or diag(sql("SELECT error_message FROM integration_runs WHERE id = $run->{id}"));
diag(sql("SELECT summary FROM integration_runs WHERE id = $run->{id}"));
diag(sql("SELECT external_table, state, complete, rows, changed, hidden, reached_at, note FROM integration_watermarks ORDER BY 1"));
diag(explain $sim->stats->{requests});
diag(sql("SELECT count(*), string_agg(DISTINCT entity_type || ' ' || coalesce(body::text, 'gone'), E'\n') FROM integration_inbox"));
$sim->reset_counters;
$run = read_back();
diag(sql("SELECT summary FROM integration_runs WHERE id = $run->{id}"));
diag(explain $sim->stats->{requests});

$sim->stop;
$node->stop;
done_testing();
