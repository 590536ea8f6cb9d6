/* The smallest CGI program: what starting a process costs here. */
#include <stdio.h>

int main(void)
{
    printf("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello, world!\n");
    return 0;
}
