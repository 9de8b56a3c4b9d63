#include "fs/label.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/json_bytes.h"

void label_copy(char *out, size_t size, struct slice text)
{
	size_t len = 0;

	while (text.len) {
		size_t n = utf8_char(text);
		size_t step = n ? n : 1;

		if (len + step >= size)
			break;
		if (n)
			memcpy(out + len, text.data, n);
		else
			out[len] = '?';
		len += step;
		text = slice_of(text.data + step, text.len - step);
	}
	out[len] = '\0';
}

/* The value, if the entry is of that name. */
static bool entry_is(struct slice entry, const char *name, struct slice *value)
{
	size_t len = strlen(name);

	if (entry.len <= len || memcmp(entry.data, name, len) != 0 || entry.data[len] != '=')
		return false;
	*value = slice_of(entry.data + len + 1, entry.len - len - 1);
	return true;
}

static void scan_entry(struct label_scan *scan)
{
	struct slice entry = slice_of(scan->entry, scan->len), value;

	if (entry_is(entry, LABEL_SESSION, &value))
		label_copy(scan->out->session, sizeof(scan->out->session), value);
	else if (entry_is(entry, LABEL_MESSAGE, &value))
		label_copy(scan->out->message, sizeof(scan->out->message), value);
	scan->len = 0;
}

void label_scan(struct label_scan *scan, struct slice piece)
{
	while (piece.len) {
		const uint8_t *end = memchr(piece.data, 0, piece.len);
		size_t n = end ? (size_t)(end - piece.data) : piece.len;
		size_t room = sizeof(scan->entry) - scan->len;

		memcpy(scan->entry + scan->len, piece.data, n < room ? n : room);
		scan->len += n < room ? n : room;
		if (end) {
			scan_entry(scan);
			n++;
		}
		piece = slice_of(piece.data + n, piece.len - n);
	}
}

void label_of_process(pid_t pid, struct label *out)
{
	struct label_scan scan = { .out = out };
	char path[48], piece[8192];
	ssize_t n;
	int fd;

	*out = (struct label){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		label_scan(&scan, slice_of(piece, (size_t)n));
	close(fd);
}
