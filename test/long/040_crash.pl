# Breaks: the worker is killed twenty times within a run, ended by pg_terminate_backend(), and the server stopped at each
# of claim, send, answer, settle and map, of every kind of record; with either write strategy.
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
workers_killed(kills => 20, write_api => 'ire', applications => 80);
workers_killed(kills => 20, write_api => 'instance', applications => 60);
stopped_immediately(write_api => 'ire', moments => [
	[ answer => { endpoint => 'core_company', method => 'POST' } ], [ settle => 'company' ], [ claim => 'it_service' ], [ settle => 'it_service' ],
	[ answer => { endpoint => 'cmdb_software_product_model', method => 'POST' } ], [ settle => 'software_product' ], [ claim => 'software_package' ],
	[ claim => 'application' ], [ send => { endpoint => 'identifyreconcile' } ], [ answer => { endpoint => 'identifyreconcile', method => 'POST' } ],
	[ map => 'contract' ] ]);
stopped_immediately(write_api => 'ire', moments => [
	[ map => 'application' ], [ settle => 'application' ], [ answer => { endpoint => 'ast_contract', method => 'POST' } ], [ settle => 'contract' ],
	[ answer => { endpoint => 'contract_rel_ci', method => 'POST' } ], [ settle => 'covers' ] ]);
stopped_immediately(write_api => 'instance', moments => [
	[ answer => { endpoint => 'core_company', method => 'POST' } ], [ answer => { endpoint => 'cmdb/instance', method => 'POST' } ], [ settle => 'application' ],
	[ send => { endpoint => 'cmdb_rel_ci', method => 'POST' } ], [ answer => { endpoint => 'cmdb_rel_ci', method => 'POST' } ],
	[ answer => { endpoint => 'ast_contract', method => 'POST' } ], [ claim => 'covers' ] ]);
workers_terminated(write_api => $_, times => 6, applications => 30) for qw(ire instance);
done_testing();
