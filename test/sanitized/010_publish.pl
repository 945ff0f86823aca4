# Breaks: a minute of random changes (SANITIZER_SECONDS) and faults; then a run whose every fifth answer is broken.
# Compares: the platform with the portfolio, set against set.  Run by test/long-sanitizer, whose findings are the point.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmFaults;
use PgsyncItsmSoak;
use Test::More;

begin_seed();
# that the sanitizer is there at all: a run without it would find nothing
{
	my $node = new_cluster();
	my $pid  = $node->safe_psql('postgres', 'SELECT pg_backend_pid() FROM pg_sleep(0)');
	my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];
	like(PostgreSQL::Test::Utils::slurp_file("/proc/$postmaster/maps"), qr/libasan/, 'the server runs under the sanitizer');
	like(PostgreSQL::Test::Utils::slurp_file("/proc/$postmaster/maps"), qr/pgsync_itsm\.so/, 'with our library');
	$node->stop('immediate');
}
soak(seconds => $ENV{SANITIZER_SECONDS} // 60, write_api => 'ire', memory => 0, percent => 1);
fault_kind($_, write_api => 'ire', applications => 10) for qw(garbage_body truncated_body nul_raw huge);
fault_kind('close_after_commit', write_api => 'instance', applications => 10);
stopped_immediately(write_api => 'instance', applications => 6, moments => [ [ claim => 'application' ], [ answer => { endpoint => 'cmdb_rel_ci' } ] ]);
done_testing();
