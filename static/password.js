// For password fields: a button that shows what is typed, and for a new password a rating. Without this script the site
// rates it when the form is sent.
"use strict";

// Roughly, in bits: as if all the different characters were equally likely.
const strength = (text) => {
  const letters = [...text];
  return letters.length * Math.log2(Math.max(new Set(letters).size, 1));
};

const inWords = (text, shortest) => {
  const missing = shortest - [...text].length;
  if (text === "") return "";
  if (missing > 0) return `At least ${missing} more ${missing === 1 ? "character" : "characters"}.`;
  const bits = strength(text);
  return bits < 36 ? "Weak." : bits < 50 ? "Fair." : bits < 70 ? "Good." : "Strong.";
};

for (const field of document.querySelectorAll("input[type=password]")) {
  const show = document.createElement("button");
  show.type = "button";
  show.className = "quiet";
  show.textContent = "Show";
  show.setAttribute("aria-label", `Show ${field.labels[0]?.textContent.trim().toLowerCase() ?? "it"}`);
  show.setAttribute("aria-pressed", "false");
  show.addEventListener("click", () => {
    const isHidden = field.type === "password";
    field.type = isHidden ? "text" : "password";
    show.setAttribute("aria-pressed", String(isHidden));
  });
  const line = field.parentElement;
  line.append(show);
  // It is submitted as a password, for the browser's password manager.
  field.form?.addEventListener("submit", () => { field.type = "password"; });

  if (field.dataset.shortest) {
    const meter = document.createElement("meter");
    Object.assign(meter, { min: 0, max: 80, low: 36, high: 50, optimum: 80, value: 0 });
    meter.setAttribute("aria-hidden", "true");
    const words = document.createElement("p");
    words.className = "hint";
    words.setAttribute("role", "status");
    line.after(meter, words);
    field.addEventListener("input", () => {
      const isLong = [...field.value].length >= Number(field.dataset.shortest);
      meter.value = isLong ? strength(field.value) : Math.min(strength(field.value), 30);
      words.textContent = inWords(field.value, Number(field.dataset.shortest));
    });
  }
}
