# Breaks: the network, the platform for as long as a minute is in production, the tokens (short form of test/long).
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
network_cut(write_api => 'ire', cuts => [qw(cut stall)], applications => 12);
platform_away(write_api => 'ire', applications => 12);
token_revoked(write_api => 'instance', applications => 10);
done_testing();
