# PgsyncItsmHaloCompare.pm: what the simulated HaloITSM tenant holds against what the portfolio wants there, set against set.
#
#     my $before = remember_halo($halo);                  before anything is published
#     ...
#     halo_equal($node, 'postgres', $ns, $halo, $before);
#
# What is wanted is asked of the portfolio's own tables, by the same SQL as for the other platform (PgsyncItsmCompare.pm), and
# put into this one's words.  What is there is read off the tenant as its API shows it.

package PgsyncItsmHaloCompare;

use strict;
use warnings;
use Encode ();
use Exporter 'import';
use Test::More;
use PgsyncItsm;
use PgsyncItsmCompare;

our @EXPORT = qw(remember_halo halo_equal);

my @resources = qw(Asset Service Supplier SupplierContract SoftwareLicence);

my %kind_of = ('Consumes::Consumed by' => 'Has instance', 'Runs on::Runs' => 'Runs on', 'Sends data to::Receives data from' => 'Sends data to',
	'Exchanges data with::Exchanges data with' => 'Exchanges data with', 'Depends on::Used by' => 'service');
my %class_of = (application => 'Business Application', deployment_profile => 'Application Instance', software_package => 'Software');

# Ids of everything that is there now, which is nothing of ours.
sub remember_halo
{
	my ($halo) = @_;
	my $all = $halo->dump(@resources);
	return { map { my $r = $_; ($r => { map { $_->{id} => 1 } @{ $all->{$r} } }) } @resources };
}

# What is there, as one who works with it sees it: ids resolved, fields of types by their labels.
sub there
{
	my ($halo) = @_;
	my %shown = map { $_ => $halo->shown($_) } @resources;
	my $more = $halo->dump(qw(Status Users Agent RelationKind AssetType));
	my %name = map { my $t = $_; ($t => { map { $_->{id} => $_->{name} } @{ $more->{$t} } }) } keys %$more;
	$name{Users} = { map { $_->{id} => lc $_->{emailaddress} } @{ $more->{Users} } };
	$name{Supplier} = { map { $_->{id} => $_->{name} } @{ $shown{Supplier} } };
	for my $asset (@{ $shown{Asset} })
	{
		$asset->{field} = { map { $_->{name} => $_->{value} } @{ $asset->{fields} } };
		$asset->{type}  = $name{AssetType}{ $asset->{assettype_id} } =~ s/ \(portfolio\)$//r;
		$asset->{name}  = $asset->{key_field};
	}
	return (\%shown, \%name);
}

# The portfolio's side in the shape that PgsyncItsmCompare asks for: users and teams by what they are called.
sub wanted
{
	my ($node, $db, $ns, $shown, $name, $before, $aside) = @_;
	my @teams = split /\n/, $node->safe_psql($db, 'SELECT DISTINCT name FROM teams');
	my @makers = split /\n/, $node->safe_psql($db, 'SELECT DISTINCT name FROM organizations');
	$_ = Encode::is_utf8($_) ? $_ : Encode::decode_utf8($_) for @teams, @makers;
	my %all = (
		sys_user => [ map { { sys_id => $_, email => $_, active => 'true' } } values %{ $name->{Users} } ],
		sys_user_group => [ map { { sys_id => $_, name => $_ } } @teams ],
		core_company => [ map { { sys_id => $_, name => $_ } } @makers ]);
	my $want = wanted_there($node, $db, $ns, { core_company => {} }, \%all, $aside);
	# a field there holds more than a column of the other platform
	my %version = map { split / /, $_, 2 } split /\n/, $node->safe_psql($db, "SELECT id || ' ' || version FROM deployment_profiles WHERE length(version) > 40");
	$_->{version} = $version{ $_->{correlation_id} } // $_->{version} for values %{ $want->{records}{deployment_profile} };
	delete $want->{records}{software_product};
	delete $want->{records}{company};
	return $want;
}

# A date that is not set is the first day of 1900, where it is shown at all.
sub day
{
	my ($date) = @_;
	return !defined $date || $date =~ /^1900-01-01/ ? '' : substr($date, 0, 10);
}

sub line { return join ' | ', map { defined $_ ? $_ : '' } @_ }

my %status = (1 => 'Live', 7 => 'Pipeline', 6 => 'Retired', 2 => 'Non-Operational');

# An asset in words: what is wanted of it.
sub asset_wanted
{
	my ($type, $w) = @_;
	return {
		name => $w->{name}, status => $status{ $w->{operational_status} }, inactive => $w->{operational_status} eq '6' ? 1 : 0,
		$type eq 'software_package'
		? (Manufacturer => $w->{manufacturer}, Version => $w->{version} eq 'unspecified' ? '' : $w->{version})
		: (owner => $w->{owned_by}, 'Managed by group' => $w->{managed_by_group}),
		$type eq 'application'
		? ('Short description' => $w->{short_description}, notes => $w->{comments}, 'Business criticality' => $w->{business_criticality}, supplier => $w->{vendor})
		: (),
		$type eq 'deployment_profile'
		? (Version => $w->{version}, 'Support group' => $w->{support_group}, 'Change group' => $w->{change_control},
			'Business criticality' => $w->{busines_criticality})
		: () };
}

sub asset_there
{
	my ($asset, $name, $fields) = @_;
	my %all = (%{ $asset->{field} }, name => $asset->{name}, status => $name->{Status}{ $asset->{status_id} // 0 }, inactive => $asset->{inactive} ? 1 : 0,
		owner => $name->{Users}{ $asset->{business_owner_id} // 0 }, notes => $asset->{notes}, supplier => $name->{Supplier}{ $asset->{supplier_id} || 0 });
	return { map { $_ => $all{$_} } @$fields };
}

sub compare_values
{
	my ($what, $want, $there) = @_;
	my @wrong;
	for my $field (sort keys %$want)
	{
		my ($w, $t) = ($want->{$field} // '', $there->{$field} // '');
		push @wrong, "$what: $field is '$t', not '$w'" if $w ne $t;
	}
	return @wrong;
}

sub compare_assets
{
	my ($want, $shown, $name, $before, $id) = @_;
	my (@wrong, %by_key);
	push @{ $by_key{ $_->{field}{'Portfolio id'} // '' } }, $_ for grep { !$before->{Asset}{ $_->{id} } } @{ $shown->{Asset} };
	for my $type (sort keys %class_of)
	{
		for my $key (sort keys %{ $want->{$type} })
		{
			my $rows = delete $by_key{$key};
			push @wrong, "missing: $type $key ($want->{$type}{$key}{name})" and next unless $rows;
			push @wrong, "there " . @$rows . " times: $type $key" if @$rows > 1;
			$id->{"asset $_->{id}"} = "$type $key" for @$rows;
			push @wrong, "$type $key is of type $rows->[0]{type}" if $rows->[0]{type} ne $class_of{$type};
			my $values = asset_wanted($type, $want->{$type}{$key});
			push @wrong, compare_values("$type $key", $values, asset_there($rows->[0], $name, [ keys %$values ]));
		}
	}
	push @wrong, map { "nobody wanted: asset $_" } sort keys %by_key;
	return @wrong;
}

# What has no key of ours there is known by name, or by reference and vendor.
sub compare_others
{
	my ($want, $shown, $name, $before, $id, $resource, $type, $key_wanted, $key_there, $values) = @_;
	my (@wrong, %rows);
	push @{ $rows{ $key_there->($_) } }, $_ for grep { !$before->{$resource}{ $_->{id} } } @{ $shown->{$resource} };
	for my $key (sort keys %{ $want->{$type} })
	{
		my $w = $want->{$type}{$key};
		my $found = delete $rows{ $key_wanted->($w) };
		push @wrong, "missing: $type " . $key_wanted->($w) and next unless $found;
		push @wrong, "there " . @$found . " times: $type " . $key_wanted->($w) if @$found > 1;
		$id->{ lc($resource) . " $_->{id}" } = "$type $key" for @$found;
		my ($ours, $theirs) = $values->($w, $found->[0]);
		push @wrong, compare_values("$type $key", $ours, $theirs);
	}
	push @wrong, map { "nobody wanted: $resource $_" } sort keys %rows;
	return @wrong;
}

# Vendors that something published names, that are not internal.
sub compare_suppliers
{
	my ($node, $db, $ns, $shown, $before, $want) = @_;
	my %named = map { $_->{vendor} => 1 } grep { ($_->{vendor} // '') ne '' } values %{ $want->{application} }, values %{ $want->{contract} };
	my @profiles = keys %{ $want->{deployment_profile} };
	my $list = join ',', map { "'$_'" } @profiles;
	for my $vendor (split /\n/, $node->safe_psql($db, "SELECT DISTINCT o.name FROM deployment_profiles p JOIN organizations o ON o.id = p.vendor_org_id
	                                                    WHERE p.id IN ($list) AND o.is_internal IS NOT TRUE"))
	{
		$named{ Encode::is_utf8($vendor) ? $vendor : Encode::decode_utf8($vendor) } = 1;
	}
	my %there;
	$there{ $_->{name} }++ for @{ $shown->{Supplier} };
	my @wrong = map { "missing: supplier $_" } grep { !$there{$_} } sort keys %named;
	push @wrong, map { "there $there{$_} times: supplier $_" } grep { $there{$_} > 1 } sort keys %there;
	push @wrong, map { "nobody wanted: supplier $_->{name}" } grep { !$named{ $_->{name} } && !$before->{Supplier}{ $_->{id} } } @{ $shown->{Supplier} };
	return @wrong;
}

sub relations_there
{
	my ($shown, $name, $id) = @_;
	my %there;
	for my $asset (grep { $id->{"asset $_->{id}"} } @{ $shown->{Asset} })
	{
		my $parent = $id->{"asset $asset->{id}"};
		$there{ "$parent > " . ($id->{"asset $_->{id}"} // "stranger $_->{id}") . ' : ' . ($name->{RelationKind}{ $_->{relationship_id} // 0 } // 'no kind') }++
		  for @{ $asset->{child_assets} // [] };
		$there{ "$parent > " . ($id->{"service $_->{id}"} // "stranger $_->{id}") . ' : service' }++ for @{ $asset->{services} // [] };
	}
	return \%there;
}

sub covers_there
{
	my ($shown, $id) = @_;
	my %there;
	for my $contract (grep { $id->{"suppliercontract $_->{id}"} } @{ $shown->{SupplierContract} })
	{
		$there{ $id->{"suppliercontract $contract->{id}"} . ' > ' . ($id->{"asset $_->{id}"} // "stranger $_->{id}") }++
		  for @{ $contract->{configuration_items} // [] };
	}
	return \%there;
}

sub compare_sets
{
	my ($what, $want, $there) = @_;
	my @wrong = map { "missing $what: $_" } grep { !$there->{$_} } sort keys %$want;
	push @wrong, map { "nobody wanted $what: $_" } grep { !$want->{$_} } sort keys %$there;
	push @wrong, map { "there $there->{$_} times, $what: $_" } grep { $there->{$_} > 1 } sort keys %$there;
	return @wrong;
}

# halo_equal($node, $db, $ns, $halo, $before, %opt): one test; says up to ten differences.
#   name    of the test;  aside   what put_aside() gave
#   kinds   0: relations have no kind there
#   dead    { relation text => 1 }: relations that the platform cannot have
sub halo_equal
{
	my ($node, $db, $ns, $halo, $before, %opt) = @_;
	my ($shown, $name) = there($halo);
	my $want = wanted($node, $db, $ns, $shown, $name, $before, $opt{aside} // {});
	my %id;
	my $records = $want->{records};
	my @wrong = compare_assets($records, $shown, $name, $before, \%id);
	push @wrong, compare_others($records, $shown, $name, $before, \%id, 'Service', 'it_service', sub { $_[0]{name} }, sub { $_[0]{name} },
		sub {
			my ($w, $t) = @_;
			my $text = $w->{description} // $w->{short_description} // '';
			return ({ summary => $text eq '' ? $w->{name} : $text }, { summary => $t->{summary} });
		});
	push @wrong, compare_others($records, $shown, $name, $before, \%id, 'SupplierContract', 'contract', sub { line(@{ $_[0] }{qw(vendor vendor_contract)}) },
		sub { line($name->{Supplier}{ $_[0]{supplier_id} }, $_[0]{ref}) },
		sub {
			my ($w, $t) = @_;
			return ({ title => $w->{short_description}, starts => $w->{starts}, ends => $w->{ends}, active => 1 },
				{ title => $t->{contract_description}, starts => day($t->{start_date}), ends => day($t->{end_date}),
					active => $t->{active} ? 1 : 0 });
		});
	push @wrong, compare_suppliers($node, $db, $ns, $shown, $before, $records);
	my %relations = map { s/ : (.*)$/' : ' . (($opt{kinds} \/\/ 1) || $kind_of{$1} eq 'service' ? $kind_of{$1} : 'no kind')/er => 1 } keys %{ $want->{relations} };
	push @wrong, compare_sets('relation', \%relations, relations_there($shown, $name, \%id));
	# a contract there covers assets
	my %covers = map { $_ => 1 } grep { !/ > it_service / } keys %{ $want->{covers} };
	push @wrong, compare_sets('cover', \%covers, covers_there($shown, \%id));
	my $stats = $halo->stats;
	push @wrong, "duplicates of $_: $stats->{duplicates}{$_}{count}" for grep { $stats->{duplicates}{$_}{count} } sort keys %{ $stats->{duplicates} };
	push @wrong, "orphans: $stats->{orphans}{count}" if $stats->{orphans}{count};
	push @wrong, 'the map has ' . $_ for grep { $_ ne '' } $node->safe_psql($db,
		"SELECT coalesce(string_agg(m.external_id || ' twice', ', '), '') FROM (SELECT external_id FROM integration_sync_map WHERE namespace_id = '$ns'
		   AND connection_id IN (SELECT id FROM integration_connections WHERE platform = 'haloitsm') GROUP BY 1 HAVING count(*) > 1) AS m");

	@wrong = map { Encode::encode_utf8($_) } @wrong;
	my $size = 0;
	$size += keys %{ $records->{$_} } for keys %$records;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = ok(@wrong == 0 && $size > 0, $opt{name} // 'both sides are equal');
	note("compared $size records, " . keys(%relations) . " relations, " . keys(%covers) . " covers");
	diag(scalar(@wrong) . " differences:\n  " . join("\n  ", @wrong > 10 ? (@wrong[ 0 .. 9 ], '...') : @wrong)) if @wrong;
	return $good;
}

1;
