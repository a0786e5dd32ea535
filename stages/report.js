"use strict";
(() => {
	const body = document.querySelector("#findings tbody");
	if (!body)
		return;
	/* So many rows at once: a table of 20 000 takes a browser seconds for every change. */
	const step = 500;
	const search = document.querySelector("#search");
	const boxes = [...document.querySelectorAll(".tools input[type=checkbox]")];
	const shown = document.querySelector("#shown");
	const more = document.querySelector("#more");
	const rows = [...body.rows];
	const texts = new Map();
	let matching = rows, limit = step;

	const text = (row) => {
		if (!texts.has(row))
			texts.set(row, row.textContent.toLowerCase());
		return texts.get(row);
	};

	const show = () => {
		const n = Math.min(limit, matching.length);
		body.replaceChildren(...matching.slice(0, n));
		more.hidden = n === matching.length;
		shown.textContent = (matching.length === rows.length ? `${rows.length} ${rows.length === 1 ? "finding" : "findings"}` :
			`${matching.length} of ${rows.length} findings`) + (more.hidden ? "" : `, the first ${n} are shown`);
	};

	const filter = () => {
		const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
		const severities = new Set(boxes.filter((box) => box.name === "severity" && box.checked).map((box) => box.value));
		const only = boxes.filter((box) => box.name === "only" && box.checked).map((box) => box.value);
		matching = rows.filter((row) => (severities.size === 0 || severities.has(row.dataset.severity)) &&
			only.every((flag) => row.dataset[flag] === "1") &&
			words.every((word) => text(row).includes(word)));
		limit = step;
		show();
	};

	const collator = new Intl.Collator("en", { numeric: true });
	const key = (row, column) => column === 0 ? Number(row.dataset.severity) : row.cells[column].textContent.trim();
	const compare = (a, b) => typeof a === "number" ? a - b : collator.compare(a, b);
	document.querySelectorAll("#findings th button").forEach((button, column) => {
		button.addEventListener("click", () => {
			const head = button.parentElement;
			const up = head.getAttribute("aria-sort") === "ascending" ? -1 : head.getAttribute("aria-sort") ? 1 : column === 0 ? -1 : 1;
			document.querySelectorAll("#findings th").forEach((th) => th.removeAttribute("aria-sort"));
			head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
			const keys = new Map(rows.map((row) => [row, key(row, column)]));
			rows.sort((a, b) => up * compare(keys.get(a), keys.get(b)));
			filter();
		});
	});
	search.addEventListener("input", filter);
	boxes.forEach((box) => box.addEventListener("change", filter));
	more.addEventListener("click", () => {
		const next = matching[limit];
		limit += step;
		show();
		next.querySelector("a, summary")?.focus();
	});
	document.querySelector(".tools").hidden = false;
	filter();
	const fold = document.querySelector("#fold");
	if (fold) {
		fold.open = true;
		fold.querySelector("summary").hidden = true;
	}
})();
