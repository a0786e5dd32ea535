/* commit_files_tool PROJECT_DIR COMMIT: what the ignore files of that commit say, as JSON. For e2e/test_commit_files.py. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/commit_files.h"

#define TIME_MS 3000

int
main(int argc, char **argv)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	AUTO_FD int project = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	AUTO_FD int objects = project < 0 ? -1 : commit_files_open(project, NULL);
	cJSON *entries = json_add_array(j, "entries");

	if (project < 0)
		return 2;
	commit_files_load(objects, argv[2], clock_deadline(TIME_MS), &l);
	for (size_t k = 0; k < l.n; k++) {
		cJSON *one = cJSON_CreateObject();

		json_add_str(one, "file", ignore_file_words[l.v[k].file]);
		json_add_str(one, "id", l.v[k].id);
		json_add_str(one, "reason", l.v[k].reason);
		json_add_str(one, "image", l.v[k].image);
		json_add_int(one, "until", l.v[k].until_s);
		json_add_strv(one, "purls", &l.v[k].purls);
		json_add_strv(one, "paths", &l.v[k].paths);
		cJSON_AddItemToArray(entries, one);
	}
	json_add_strv(j, "notes", &l.notes);
	text = json_print(j);
	puts(text);
	return 0;
}
