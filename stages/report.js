"use strict";
(() => {
	const body = document.querySelector("#findings tbody");
	if (!body)
		return;
	const search = document.querySelector("#search");
	const boxes = [...document.querySelectorAll(".tools input[type=checkbox]")];
	const shown = document.querySelector("#shown");
	const rows = [...body.rows];
	const texts = rows.map((row) => row.textContent.toLowerCase());

	const filter = () => {
		const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
		const severities = new Set(boxes.filter((box) => box.name === "severity" && box.checked).map((box) => box.value));
		const only = boxes.filter((box) => box.name === "only" && box.checked).map((box) => box.value);
		let n = 0;
		rows.forEach((row, i) => {
			const is = (severities.size === 0 || severities.has(row.dataset.severity)) &&
				only.every((flag) => row.dataset[flag] === "1") &&
				words.every((word) => texts[i].includes(word));
			row.hidden = !is;
			n += is;
		});
		shown.textContent = n === rows.length ? `${n} findings` : `${n} of ${rows.length} findings`;
	};

	const key = (row, column) => column === 0 ? Number(row.dataset.severity) : row.cells[column].textContent.trim();
	const compare = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
	document.querySelectorAll("#findings th button").forEach((button, column) => {
		button.addEventListener("click", () => {
			const head = button.parentElement;
			const up = head.getAttribute("aria-sort") === "ascending" ? -1 : head.getAttribute("aria-sort") ? 1 : column === 0 ? -1 : 1;
			document.querySelectorAll("#findings th").forEach((th) => th.removeAttribute("aria-sort"));
			head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
			const keyed = [...body.rows].map((row) => [key(row, column), row]);
			keyed.sort((a, b) => up * compare(a[0], b[0]));
			body.append(...keyed.map((pair) => pair[1]));
		});
	});
	search.addEventListener("input", filter);
	boxes.forEach((box) => box.addEventListener("change", filter));
	document.querySelector(".tools").hidden = false;
	filter();
})();
