/* print_version.c - which kith was compiled against, and which is linked. */
#include <stdio.h>
#include <string.h>

#include <kith/version.h>

int main(void)
{
    printf("compiled with %s, linked with %s\n", KITH_VERSION_STRING, kith_version());
    return strcmp(KITH_VERSION_STRING, kith_version()) != 0;
}
