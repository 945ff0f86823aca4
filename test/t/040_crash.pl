# Breaks: the worker is killed, ended and stopped at each of claim, send and settle (short form of test/long).
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
workers_killed(kills => 4, write_api => 'ire', applications => 15);
stopped_immediately(write_api => 'ire', moments => [
	[ settle => 'software_product' ], [ claim => 'application' ], [ send => { endpoint => 'identifyreconcile' } ], [ answer => { endpoint => 'ast_contract', method => 'POST' } ] ]);
workers_terminated(write_api => 'instance', times => 2, applications => 10);
done_testing();
