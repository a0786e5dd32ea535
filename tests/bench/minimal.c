/* The least that a custom executor can be: by its name it is one of the four; run hands the script to bash. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	if (strcmp(name, "config") == 0)
		puts("{\"driver\":{\"name\":\"minimal\",\"version\":\"1\"}}");
	if (strcmp(name, "run") == 0 && argc > 1) {
		execl("/bin/bash", "bash", argv[1], (char *)NULL);
		return 2;
	}
	return 0;
}
