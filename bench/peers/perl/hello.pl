# Perl's FCGI (Debian libfcgi-perl) on descriptor 0. Posts are read and counted.
use strict;
use warnings;
use FCGI;

my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    print "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    if (($ENV{REQUEST_METHOD} // '') eq 'POST') {
        my ($bytes, $buffer) = (0, '');
        while ((my $count = read(STDIN, $buffer, 65536)) > 0) {
            $bytes += $count;
        }
        print "$bytes\n";
    } else {
        print "Hello, world!\n";
    }
}
