// Local times, and numbers and prices in the reader's language. Every page is whole without it.
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function inWords(root) {
  for (const each of root.querySelectorAll("time[datetime]:not([data-done])")) {
    const beside = document.createElement("span");
    beside.className = "local";
    beside.textContent = local.format(new Date(each.dateTime));
    each.append(beside);
    each.dataset.done = "";
  }
  for (const each of root.querySelectorAll("data[data-number]")) {
    each.textContent = new Intl.NumberFormat().format(Number(each.value));
  }
  for (const each of root.querySelectorAll("data[data-currency]")) {
    const currency = each.dataset.currency;
    if (currency) each.textContent = new Intl.NumberFormat(undefined, { style: "currency", currency, maximumFractionDigits: 2, minimumFractionDigits: 0 }).format(Number(each.value));
  }
}

inWords(document);

// Decisions: ask for newer every two seconds, while somebody looks.
const table = document.querySelector("table[data-live]");
if (table) {
  const body = table.tBodies[0], says = document.getElementById("live"), most = 200;
  const link = document.querySelector('.pages a[rel="prev"]');
  const look = async () => {
    if (document.hidden) return;
    const after = body.rows[0]?.dataset.at;
    const url = table.dataset.live + (after ? `&after=${encodeURIComponent(after)}` : "");
    try {
      const answer = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = document.createElement("tbody");
      fresh.innerHTML = await answer.text();
      for (const row of fresh.rows) row.classList.add("fresh");
      inWords(fresh);
      const count = fresh.rows.length;
      if (count) says.textContent = `${new Intl.NumberFormat().format(count)} new`;
      else if (says.dataset.away) says.textContent = "";
      delete says.dataset.away;
      body.prepend(...fresh.rows);
      while (body.rows.length > most) body.deleteRow(-1);
      if (count) document.querySelector(".note.empty")?.remove();
    } catch {
      says.dataset.away = "yes";
      says.textContent = "The sidecar does not answer; asking again.";
    }
  };
  link?.setAttribute("hidden", "");
  setInterval(look, 2000);
}
