<?php
// PHP-FPM. Posts are read and counted.
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $bytes = 0;
    $body = fopen('php://input', 'rb');
    while (!feof($body)) {
        $bytes += strlen(fread($body, 65536));
    }
    echo $bytes, "\n";
} else {
    echo "Hello, world!\n";
}
