
"use strict";
const section = document.getElementById("upload");
const input = section.querySelector("input");
const list = section.querySelector("ul");
section.querySelector("button").hidden = true;
section.querySelector("span").hidden = false;

function put(file) {
  return new Promise((resolve) => {
    const line = list.appendChild(document.createElement("li"));
    const say = (text) => { line.textContent = `${file.name}: ${text}`; };
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => {
      say(`${Math.floor(100 * event.loaded / Math.max(1, event.total))} %`);
    };
    request.onload = () => {
      say(request.status < 300 ? "done" : request.responseText.trim() || `error ${request.status}`);
      resolve(request.status < 300);
    };
    request.onerror = () => { say("the connection broke"); resolve(false); };
    request.open("PUT", "./" + encodeURIComponent(file.name));
    say("0 %");
    request.send(file);
  });
}

async function putAll(files) {
  let done = true;
  for (const file of files) done = await put(file) && done;
  if (done) location.reload();
}

input.onchange = () => putAll([...input.files]);
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  putAll([...event.dataTransfer.files]);
});
