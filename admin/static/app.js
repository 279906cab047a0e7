// What pages need beyond htmx: form tokens, faults that belong to their fields, choices that show and hide, questions.
"use strict";

const token = document.querySelector('meta[name="form-token"]');

document.addEventListener("htmx:configRequest", (event) => {
  if (token) event.detail.headers["X-Form-Token"] = token.content;
});

// A part that is asked for every few seconds rests while nobody looks.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.hasAttribute("data-poll")) event.preventDefault();
});

document.addEventListener("htmx:afterSwap", (event) => {
  const fault = event.detail.target;
  if (!fault.classList.contains("fault")) return;
  const wrong = fault.textContent.trim() !== "";
  for (const input of document.querySelectorAll(`[aria-describedby~="${fault.id}"]`)) {
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
});

// The verdict on a connection must not hide behind the bar at the bottom.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id === "connection") event.detail.target.scrollIntoView({ block: "nearest" });
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// The row of a domain goes; what was typed there is gone only when the form is saved.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-remove]");
  if (!button) return;
  const row = button.closest(button.dataset.remove);
  const next = row.nextElementSibling || row.previousElementSibling;
  row.remove();
  const focus = (next && next.querySelector("input")) || document.querySelector("[data-add]");
  if (focus) focus.focus();
});

function showChoices() {
  for (const part of document.querySelectorAll("[data-when]")) {
    const [name, value] = part.dataset.when.split("=");
    const chosen = document.querySelector(`input[name="${name}"]:checked`);
    part.hidden = !(chosen && chosen.value === value);
  }
}
document.addEventListener("change", showChoices);
showChoices();

// After a failed save the reader is led to what is wrong.
const summary = document.querySelector("[data-focus]");
if (summary) summary.focus();
