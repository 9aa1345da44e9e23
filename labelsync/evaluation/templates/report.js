"use strict";
document.documentElement.classList.add("js");

// Tables: a button in each heading sorts by its column; what has no value stays at the end.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : "number" in head.dataset;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = "number" in head.dataset ? a - b : a.localeCompare(b);
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// Worst images: the slider, or a pointer on the picture, moves the line between image and layer.
for (const viewer of document.querySelectorAll("[data-viewer]")) {
  const slider = viewer.querySelector("input[type=range]");
  const stack = viewer.querySelector(".stack");
  const show = () => {
    stack.style.setProperty("--at", slider.value + "%");
    const layer = viewer.querySelector("input[type=radio]:checked").value;
    slider.setAttribute("aria-valuetext", `image left of ${slider.value} %, ${layer} right of it`);
  };
  viewer.addEventListener("input", show);
  const follow = (event) => {
    const box = stack.getBoundingClientRect();
    slider.value = Math.round(((event.clientX - box.left) / box.width) * 100);
    show();
  };
  stack.addEventListener("pointerdown", (event) => {
    stack.setPointerCapture(event.pointerId);
    follow(event);
  });
  stack.addEventListener("pointermove", (event) => event.buttons && follow(event));
  show();
}

// Training: the slider chooses the evaluation whose picture is shown.
for (const film of document.querySelectorAll("[data-film]")) {
  const slider = film.querySelector("input[type=range]");
  const shots = [...film.querySelectorAll(".shot")];
  const show = () => {
    shots.forEach((shot, i) => shot.classList.toggle("on", i === Number(slider.value)));
    slider.setAttribute("aria-valuetext", shots[slider.value].dataset.title);
    film.querySelector("output").textContent = shots[slider.value].dataset.title;
  };
  slider.addEventListener("input", show);
  show();
}
