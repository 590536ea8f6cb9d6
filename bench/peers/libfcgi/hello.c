/* libfcgi (Debian libfcgi-dev): the loop of its manual. Posts are read and counted. */
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    static char buffer[64 * 1024];
    while (FCGI_Accept() >= 0) {
        const char *method = getenv("REQUEST_METHOD");
        printf("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        if (method != NULL && strcmp(method, "POST") == 0) {
            unsigned long bytes = 0;
            size_t count;
            while ((count = fread(buffer, 1, sizeof buffer, stdin)) > 0)
                bytes += count;
            printf("%lu\n", bytes);
        } else {
            printf("Hello, world!\n");
        }
    }
    return 0;
}
