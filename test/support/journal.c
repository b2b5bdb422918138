/*
 * A journal for tests: binds a datagram socket at PATH, and writes each entry that comes to standard output with its length
 * (32 bits, little-endian) in front, be it the datagram itself or in a sealed memfd that came along, as systemd's
 * JOURNAL_NATIVE_PROTOCOL has it. Exits with 1 for a memfd that could still change. Runs until its standard input ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static void put(const void *bytes, uint32_t length)
{
	fwrite(&length, sizeof length, 1, stdout);
	fwrite(bytes, 1, length, stdout);
	fflush(stdout);
}

static void take(int fd)
{
	struct stat st;
	if (fcntl(fd, F_GET_SEALS) != SEALS || fstat(fd, &st) != 0) exit(1);
	void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED) exit(1);
	put(bytes, (uint32_t)st.st_size);
	munmap(bytes, (size_t)st.st_size);
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
	strcpy(address.sun_path, argv[1]);
	if (bind(s, (struct sockaddr *)&address, sizeof address) != 0) return 2;
	put("", 0); /* it is there */
	static char buffer[1 << 20];
	for (;;) {
		struct pollfd fds[2] = {{.fd = s, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
		poll(fds, 2, -1);
		if (!(fds[0].revents & POLLIN)) return 0;
		char control[CMSG_SPACE(sizeof(int))];
		struct iovec iov = {buffer, sizeof buffer};
		struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		ssize_t n = recvmsg(s, &message, 0);
		if (n < 0) return 2;
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		if (!c) {
			put(buffer, (uint32_t)n);
			continue;
		}
		int fd;
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
		take(fd);
	}
}
