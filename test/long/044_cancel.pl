# Breaks: runs are cancelled while they are busy, and while the platform has done what it was told and does not answer,
# for each kind of record that is inserted; runs of more than max_changes wait.
# Compares: the time of the last request with that of the cancel, writes before and after the approval, and the
# platform with the portfolio, set against set.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
cancelled_run(write_api => 'ire', hang => [$_]) for qw(identifyreconcile ast_contract contract_rel_ci);
cancelled_run(write_api => 'instance', hang => [$_]) for qw(cmdb_rel_ci ast_contract);
needs_approval();
done_testing();
