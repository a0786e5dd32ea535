/*
 * spawn RUNS ROUNDS PROGRAM ARGS -- PROGRAM ARGS [-- …]: starts each program RUNS times and waits for its end, turn by
 * turn in so many rounds, and prints for each one line: the microseconds per start of every round.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define PROGRAMS_MAX 16
#define ROUNDS_MAX 1000

static double
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void
start(char **argv, const posix_spawn_file_actions_t *actions)
{
	static char *env[] = { "PATH=/usr/bin:/bin", "LANG=C.UTF-8", NULL };
	int status;
	pid_t pid;

	if (posix_spawn(&pid, argv[0], actions, NULL, argv, env) != 0 || waitpid(pid, &status, 0) != pid ||
	    !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "spawn: %s does not end with 0\n", argv[0]);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	static double took[PROGRAMS_MAX][ROUNDS_MAX];
	char **programs[PROGRAMS_MAX];
	int n_programs = 0, runs, rounds;
	posix_spawn_file_actions_t actions;

	if (argc < 4)
		return 2;
	runs = atoi(argv[1]);
	rounds = atoi(argv[2]);
	if (runs < 1 || rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	programs[n_programs++] = argv + 3;
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0 && n_programs < PROGRAMS_MAX) {
			argv[i] = NULL;
			programs[n_programs++] = argv + i + 1;
		}
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	for (int p = 0; p < n_programs; p++)
		start(programs[p], &actions);
	for (int round = 0; round < rounds; round++) {
		for (int p = 0; p < n_programs; p++) {
			double since = now_us();

			for (int i = 0; i < runs; i++)
				start(programs[p], &actions);
			took[p][round] = (now_us() - since) / runs;
		}
	}
	posix_spawn_file_actions_destroy(&actions);
	for (int p = 0; p < n_programs; p++) {
		for (int round = 0; round < rounds; round++)
			printf("%s%.1f", round ? " " : "", took[p][round]);
		printf("\n");
	}
	return 0;
}
