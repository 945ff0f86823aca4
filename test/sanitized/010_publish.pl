# Breaks: two minutes of random changes (SANITIZER_SECONDS) and faults; then runs of which a tenth of the answers is broken.
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
# that they are there at all: a run without them would find nothing
{
	my $node = new_cluster();
	my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my $maps = PostgreSQL::Test::Utils::slurp_file("/proc/$postmaster/maps");
	like($maps, qr/$_/, "the server runs with $_") for 'memcheck', 'libubsan', 'pgsync_itsm\.so';
	$node->stop('immediate');
}
soak(seconds => $ENV{SANITIZER_SECONDS} // 120, write_api => 'ire', memory => 0, percent => 1, applications => 10);
fault_kind($_, write_api => 'ire', applications => 5) for qw(garbage_body truncated_body);
fault_kind('close_after_commit', write_api => 'instance', applications => 4);
done_testing();
