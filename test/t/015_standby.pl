# Nothing runs on a standby; a promoted one carries on by itself.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster(databases => 'postgres', allows_streaming => 1);
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
ok(wait_for_worker($node, 'postgres'), 'a worker on the primary');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $ours = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm%'";
is($standby->safe_psql('postgres', $ours), 0, 'neither launcher nor worker on the standby');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM itsm_stat_worker'), 0, 'nor a row about one');

$node->stop('fast');
$standby->promote;
ok(wait_for_worker($standby, 'postgres'), 'promoted, it has a worker');
is($standby->safe_psql('postgres', 'SELECT pgsync_itsm.launcher_pid() IS NOT NULL'), 't', 'and a launcher');
$standby->stop('fast');

done_testing();
