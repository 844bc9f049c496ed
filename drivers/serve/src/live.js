// In: /probe.json, once a second. Out: the page's numbers. All that is written is text, never markup.
"use strict";

const find = (selector, from = document) => from.querySelector(selector);

function short(n) {
  if (n >= 1e9) return (n / 1e9).toFixed(1) + "G";
  if (n >= 1e6) return (n / 1e6).toFixed(1) + "M";
  if (n >= 1e4) return (n / 1e3).toFixed(1) + "k";
  return n >= 10 || Number.isInteger(n) ? n.toFixed(0) : n.toFixed(1);
}

function seconds(n) {
  if (n === null) return "-";
  if (n >= 1) return n.toFixed(1) + " s";
  return n >= 1e-3 ? (n * 1e3).toFixed(1) + " ms" : (n * 1e6).toFixed(0) + " µs";
}

function part(cell, share) {
  find("meter", cell).value = share;
  find("span", cell).textContent = (share * 100).toFixed(0) + " %";
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  made.className = kind;
  return made;
}

function crew(id, all, keys) {
  const table = document.getElementById(id);
  const body = table.tBodies[0];
  table.hidden = all.length === 0;
  while (body.rows.length > all.length) body.deleteRow(-1);
  all.forEach((one, place) => {
    let row = body.rows[place];
    if (!row) {
      row = body.insertRow();
      cell(row, "", "");
      const share = cell(row, "", "share");
      const meter = document.createElement("meter");
      meter.max = 1;
      share.append(meter, " ", document.createElement("span"));
      keys.forEach(() => cell(row, "", "n"));
    }
    row.cells[0].textContent = one.name;
    part(row.cells[1], one.busy);
    keys.forEach((key, at) => (row.cells[2 + at].textContent = short(one[key])));
  });
}

function show(probe) {
  const verdict = document.getElementById("verdict");
  find("[data-key=what]", verdict).textContent = probe.bottleneck.what;
  find("[data-key=why]", verdict).textContent = probe.bottleneck.why;
  const totals = {
    requests: short(probe.requests.per_second),
    p50: seconds(probe.requests.p50),
    p99: seconds(probe.requests.p99),
    open: short(probe.connections.open),
    refused: short(probe.requests.refused),
  };
  for (const key in totals) find(`#totals [data-key=${key}]`).textContent = totals[key];
  for (const one of probe.responses) {
    find(`#responses [data-class="${one.class}"]`).textContent = short(one.per_second);
    find(`#responses [data-total="${one.class}"]`).textContent = short(one.total);
  }
  for (const stage of probe.stages) {
    const row = find(`tr[data-stage=${stage.name}]`);
    if (!row) continue;
    row.className = stage.name === probe.bottleneck.stage ? "hot" : "";
    part(find(".share", row), stage.share);
    for (const key of ["bytes_per_second", "per_second", "queue", "queue_most"]) {
      find(`[data-key=${key}]`, row).textContent = short(stage[key]);
    }
  }
  crew("threads", probe.threads, []);
  crew("pools", probe.pools, ["queue", "queue_most", "refused"]);
}

async function look() {
  const alive = document.getElementById("alive");
  try {
    if (!document.hidden) {
      const answer = await fetch("/probe.json", { cache: "no-store" });
      show(await answer.json());
      alive.textContent = ", as this one is";
    }
  } catch {
    alive.textContent = ", but this one hears nothing from its server now";
  }
  setTimeout(look, 1000);
}

if (document.getElementById("verdict")) look();
