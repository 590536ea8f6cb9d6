// Adds a "Copy" button to each digest on the result page. Without it, digests are selected by hand.
"use strict";

if (navigator.clipboard) {
  for (const digest of document.querySelectorAll("[data-copy]")) {
    const name = digest.dataset.copy;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${name}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(digest.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    document.getElementById(`title-${name}`)?.append(button);
  }
}
