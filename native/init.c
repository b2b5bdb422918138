/*
 * The init of `docker run --init` on hosts that have no tini: process 1 of the container. It starts the command, hands
 * every signal on to it, reaps whatever is orphaned, and ends with the command's status. Behaves as tini (krallin/tini)
 * does without options; one argument "--" is skipped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_NOT_FOUND = 127, EXIT_NOT_EXECUTABLE = 126, EXIT_SIGNALLED = 128 };

/* Raised by this process's own faults: blocked, they would loop for ever. */
static const int faults[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};

static void run(char **argv, const sigset_t *mask)
{
	/* a group of its own, in the foreground where there is a terminal */
	if (setpgid(0, 0) == 0) (void)tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTIN, SIG_DFL);
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int error = errno;
	fprintf(stderr, "init: exec %s failed: %s\n", argv[0], strerror(error));
	_exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* -1 while the command runs, else the status to end with. */
static int reap(pid_t command)
{
	int result = -1, status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == command) result = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNALLED + WTERMSIG(status);
	return result;
}

int main(int argc, char **argv)
{
	char **command = argv + 1;
	if (argc > 1 && strcmp(command[0], "--") == 0) command++;
	if (!*command) {
		fprintf(stderr, "init: no command\n");
		return EXIT_FAILURE;
	}
	sigset_t all, before;
	sigfillset(&all);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
	sigprocmask(SIG_SETMASK, &all, &before);
	/* a background process that touches the terminal is stopped, unless it ignores these */
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);

	pid_t pid = fork();
	if (pid < 0) {
		perror("init: fork");
		return EXIT_FAILURE;
	}
	if (pid == 0) run(command, &before);
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(&all, &info);
		if (number < 0) continue;
		if (number != SIGCHLD) {
			kill(pid, number);
			continue;
		}
		int result = reap(pid);
		if (result >= 0) return result;
	}
}
